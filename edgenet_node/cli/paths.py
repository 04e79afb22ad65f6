"""Paths of the daemon's HTTP API."""

from __future__ import annotations

from urllib.parse import quote, urlencode


def path_of(*parts: str, **query: object) -> str:
    """`/api/<part>/<part>?query`, quoted."""
    path = "/api/" + "/".join(quote(part, safe="") for part in parts)
    return f"{path}?{urlencode(query)}" if query else path
