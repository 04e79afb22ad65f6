"""The committee's word on who may connect, applied to one peer."""

from __future__ import annotations

from ..messages.committee import Admission


def barred(admission: Admission | None, peer: str) -> str:
    """Why the swarm does not want this peer; empty if it may come. The committee is always let in: it decides."""
    if admission is None or peer in admission.committee:
        return ""
    if peer in admission.banned:
        return f"banned: {admission.banned[peer] or 'the committee gave no reason'}"
    if admission.listed and peer not in admission.admitted:
        return "this swarm admits only those that its committee lists"
    return ""
