"""Handlers, found by entry points and validated: the explicit table of task kinds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any, Final

from msgspec import Struct

from ..errors import ConfigError, UsageError
from ..wire.task import ITEMS_MAX
from .handlers import Environment, Handler

GROUP: Final = "edgenet_node.handlers"
_KIND: Final = re.compile(r"[a-z][a-z0-9_.\-]{0,47}")
_TARGET: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


class Broken(Struct, frozen=True):
    """A plug-in that could not be used, and why: shown to the owner, skipped by the node."""

    name: str
    reason: str


class Registry:
    """Task kinds by name. Immutable once made."""

    def __init__(self, handlers: Iterable[Handler], broken: Iterable[Broken] = ()) -> None:
        """`ConfigError` for a handler that is not usable, or for two of one kind."""
        self._handlers: dict[str, Handler] = {}
        self.broken = tuple(broken)
        for handler in handlers:
            self._add(handler)

    def _add(self, handler: Handler) -> None:
        if reason := objection(handler):
            raise ConfigError(f"handler {type(handler).__name__}: {reason}")
        if handler.kind in self._handlers:
            raise ConfigError(f"two handlers for the task kind {handler.kind}: uninstall one of their packages")
        taken = self.functions()
        clash = sorted(name for name, target in handler.functions.items() if taken.get(name, target) != target)
        if clash:
            raise ConfigError(f"handler {handler.kind}: the function {clash[0]} belongs to another handler")
        self._handlers[handler.kind] = handler

    def get(self, kind: str) -> Handler:
        """`UsageError` that lists what is known."""
        handler = self._handlers.get(kind)
        if handler is None:
            known = ", ".join(sorted(self._handlers)) or "none"
            raise UsageError(f"unknown task kind {kind[:60]!r}; known are: {known}")
        return handler

    def find(self, kind: str) -> Handler | None:
        return self._handlers.get(kind)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def functions(self) -> dict[str, str]:
        """What the executor may run: name to "module:attr"."""
        return {name: target for handler in self._handlers.values() for name, target in handler.functions.items()}


def objection(handler: Any) -> str:
    """Why this cannot be a handler; empty if it can."""
    missing = [name for name in _required() if not hasattr(handler, name)]
    if missing:
        return f"lacks {', '.join(missing)}"
    if not isinstance(handler.kind, str) or _KIND.fullmatch(handler.kind) is None:
        return "its kind must be 1 to 48 of a-z 0-9 _ . - and start with a letter"
    if handler.verification not in ("exact", "tolerance") or handler.place not in ("inline", "thread", "worker"):
        return "its verification or place is none of those that exist"
    if not isinstance(handler.functions, Mapping) or handler.function not in handler.functions:
        return "its function is not among its functions"
    if handler.confirm and handler.confirm not in handler.functions:
        return "its confirm is not among its functions"
    if not all(_TARGET.fullmatch(str(target)) for target in handler.functions.values()):
        return 'its functions must read "package.module:attr"'
    if not 1 <= handler.chunk_items_max <= ITEMS_MAX:
        return f"its chunk_items_max must be 1 to {ITEMS_MAX}"
    return ""


def _required() -> list[str]:
    return [name for name in vars(Handler) if not name.startswith("_")]


def load(environment: Environment, points: Iterable[metadata.EntryPoint] | None = None) -> Registry:
    """All installed handlers. A plug-in that does not load, or takes a kind that exists, is listed in `broken`."""
    found = metadata.entry_points(group=GROUP) if points is None else points
    handlers: dict[str, Handler] = {}
    broken: list[Broken] = []
    # Ours come first, so that no plug-in can take the place of a built-in kind.
    for point in sorted(found, key=lambda one: (not one.value.startswith("edgenet_node."), one.name)):
        try:
            handler = point.load()(environment)
            reason = objection(handler)
            if not reason:
                Registry([*handlers.values(), handler])
        except ConfigError as error:
            reason = error.message
        except Exception as error:  # noqa: BLE001 - foreign code: whatever it raises must not stop the node
            reason = f"{type(error).__name__}: {error}"
        if reason:
            broken.append(Broken(point.name, reason[:300]))
        else:
            handlers[handler.kind] = handler
    return Registry(handlers.values(), broken)
