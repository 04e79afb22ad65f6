"""What must hold before a node starts."""

from __future__ import annotations

from collections.abc import Iterable

from ..effects import Part
from ..errors import InvariantError


def check_parts(parts: Iterable[Part], services: Iterable[type]) -> None:
    """What must hold before a node starts: one owner for each type, an owner for each waiting tell, no cycle of waiting
    tells, and nothing remote that is not accepted. `InvariantError` names the part and the type."""
    owners: dict[type, str] = dict.fromkeys(services, "")
    parts = list(parts)
    names = [part.name for part in parts]
    if len(set(names)) != len(names):
        raise InvariantError(f"two parts of the same name: {sorted(names)}")
    for part in parts:
        for message in part.accepts:
            if message in owners:
                other = owners[message] or "a service"
                raise InvariantError(f"{message.__name__} has two owners: {other} and {part.name}")
            owners[message] = part.name
        for message in part.remote:
            if message not in part.accepts:
                raise InvariantError(f"{part.name} opens {message.__name__} to peers but does not accept it")
    waits: dict[str, set[str]] = {}
    for part in parts:
        for message in part.tells:
            if message not in owners:
                raise InvariantError(f"{part.name} tells {message.__name__}, which nobody accepts")
            if owners[message]:
                waits.setdefault(part.name, set()).add(owners[message])
    _check_acyclic(waits)


def _check_acyclic(waits: dict[str, set[str]]) -> None:
    """Depth-first search; a part that waits for itself, directly or not, could wait for ever."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise InvariantError("waiting tells form a cycle: " + " -> ".join((*path[path.index(name) :], name)))
        if name in done:
            return
        for target in sorted(waits.get(name, ())):
            visit(target, (*path, name))
        done.add(name)

    for name in sorted(waits):
        visit(name, ())
