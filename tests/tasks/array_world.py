"""The seeded world of `world`, where workers really compute: for kinds whose results cannot be made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from edgenet_node.adapters.process_executor.context import Residents, WorkerContext, load_function
from edgenet_node.effects import Compute, Done, Envelope, Reply
from edgenet_node.tasks.handlers.array_kind import ArrayKind
from edgenet_node.tasks.registry import Registry
from edgenet_node.tasks.serving import ServingCore
from edgenet_node.tasks.settings import ServingSettings

from .world import LATENCY_S, Peer, World


class ArrayWorld(World):
    """One kind. A peer that lies does so with every block."""

    def __init__(self, seed: int, peers: Sequence[Peer], *, handler: ArrayKind, payload: Mapping[str, Any]) -> None:
        self.handler = handler
        self.payload = payload
        super().__init__(seed, peers, handler=handler)

    def _equip(self, peer: Peer) -> None:
        lies = peer.lie(Random(1), False)
        settings = ServingSettings(workers=peer.workers, lie=lies)
        peer.core = ServingCore(settings, Registry([self.handler]), Random(1))
        peer.core.restore([], self.now())

    def compute(self, effect: Compute) -> bytes:
        context = WorkerContext(Residents(4, 1 << 20), lambda: False)
        output: bytes = load_function(self.handler.functions[effect.fn])(context, *effect.args)
        return output

    def _perform(self, effect: Any, operation: int) -> None:
        if isinstance(effect, Compute):
            output = self.compute(effect)
            self.at(self.own_seconds_per_item, lambda: self._done(effect.tag, operation, output))
        else:
            super()._perform(effect, operation)

    def _serve(self, peer: Peer, effects: Sequence[Any], waiting: dict[int, tuple[Any, int]]) -> None:
        for effect in effects:
            match effect:
                case Reply(to, value, error) if to in waiting:
                    tag, operation = waiting[to]
                    self.at(LATENCY_S, lambda t=tag, o=operation, v=value, e=error: self._done(t, o, v, e))  # type: ignore[misc]
                case Compute():
                    output = self.compute(effect)
                    self.at(peer.seconds_per_item, lambda t=effect.tag, o=output: self._answer(peer, t, o, waiting))  # type: ignore[misc]
                case _:
                    pass

    def _answer(self, peer: Peer, tag: Any, output: bytes, waiting: dict[int, tuple[Any, int]]) -> None:
        self._serve(peer, peer.core.step(Envelope(Done(tag, output)), self.now()), waiting)
