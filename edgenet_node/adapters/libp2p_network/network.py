"""`Libp2pNetwork`: the network port over libp2p, and the supervisor that rebuilds the host when it crashes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
import trio
from libp2p.custom_types import TProtocol
from libp2p.host.exceptions import StreamFailure
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from ...errors import ConfigError, Conflict, Refused, TimedOut, TooLarge, Unreachable, UsageError
from ...ports.clock import Clock
from ...ports.network import Channel, Connection, NetworkListener
from ...ports.store import ArtifactStore
from ...wire.registry import MESSAGES
from .admission import Admission
from .blobs import BlobFetcher, BlobServer
from .calls import Client, Server
from .frames import encode_error
from .gossip import Gossip
from .host import Live, build, peer_id, serve
from .keeper import Keeper, parse_bootstrap
from .limits import Counters, NetworkSettings, backoff_s
from .links import Links
from .messages import Messages
from .muxer import StreamBroken
from .pipe import Pipe
from .report import Report

HELLO: Final = TProtocol("/edgenet/hello/1")
RPC: Final = "/edgenet/{swarm}/rpc/1"
BLOB: Final = "/edgenet/{swarm}/blob/1"
ONE_WAY: Final = "/edgenet/{swarm}/{name}"
SWARM_CHARS_MAX: Final = 128
STEADY_S: Final = 60.0
"""A host that ran this long before it crashed is rebuilt after the first backoff again."""

log = structlog.get_logger("network")


class Libp2pNetwork:
    """See `edgenet_node.ports.network.Network` for the methods that the runtime uses.

    `run` in a nursery (`await nursery.start(network.run)`): started once it listens; cancel it to stop. The object
    stays usable while the host is being rebuilt: calls raise `Unreachable`, gossip waits in its queue.
    """

    def __init__(
        self,
        seed: bytes,
        settings: NetworkSettings,
        listener: NetworkListener,
        artifacts: ArtifactStore,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._seed = seed
        self._settings = settings
        self._listener = listener
        self._clock = clock
        self._rng = rng
        self._own = peer_id(seed)
        self._counters = Counters()
        self._report = Report(listener, self._counters)
        self._admission = Admission(settings)
        self._links = Links(
            self._own,
            settings,
            self._admission,
            clock,
            self._report,
            joined=self._joined,
            left=self._left,
            kept=self._kept,
        )
        self._gossip = Gossip(settings, listener, self._links.banned, self._report, self._own)
        self._keeper = Keeper(settings, self._own, self._links, rng, self._report)
        self._messages = Messages(listener, settings, self._report, rng)
        self._blobs = BlobServer(artifacts, settings, self._report)
        self._fetcher = BlobFetcher(artifacts, settings, self._report)
        self._swarm = ""
        self._listen = tuple(_multiaddr("listen", text) for text in settings.listen)
        for text in settings.announce:
            _multiaddr("announce", text)
        for text in settings.bootstrap:
            peer, address = parse_bootstrap(text)
            self._keeper.add(peer, [address], keep=True)
        self._live: Live | None = None
        self._nursery: trio.Nursery | None = None
        self._clients: dict[tuple[str, Channel], Client] = {}
        self._servers: dict[str, set[Server]] = {}
        self._stop = trio.Event()

    # -- lifecycle -----------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and serve until cancelled or closed. `ConfigError` when the first host cannot listen."""
        ready = _Once(task_status.started)
        crashes = 0
        while not self._stop.is_set():
            began = trio.current_time()
            refused: ConfigError | None = None
            try:
                await self._incarnation(ready)
            except* Exception as group:  # noqa: BLE001
                # A cancellation among them is raised on by itself. What is left is either a crash of the host, or the
                # library's complaints about being shut down under traffic.
                first = _first(group)
                if isinstance(first, ConfigError) and not ready.done:
                    refused = first
                elif not self._stop.is_set():
                    self._report.fault("host", first)
            if refused is not None:
                raise refused
            if self._stop.is_set():
                return
            self._report.count("host_restarts")
            crashes = 0 if trio.current_time() - began > STEADY_S else crashes + 1
            wait_s = backoff_s(
                crashes, self._settings.restart_first_s, self._settings.restart_max_s, self._rng.random()
            )
            with trio.move_on_after(wait_s):
                await self._stop.wait()

    async def close(self) -> None:
        """End `run`; the host closes its connections on the way out."""
        self._stop.set()

    async def _incarnation(self, ready: _Once) -> None:
        seqno = int(self._clock.now().wall * 1e9)
        live = build(self._seed, self._settings, self._links, self._report, seqno)
        self._links.attach(live.swarm)
        self._serve_on(live, HELLO, self._serve_hello)
        try:
            async with trio.open_nursery() as outer:
                outer.start_soon(serve, live, self._listen)
                try:
                    await live.ready.wait()
                    await self._attend(live, ready)
                finally:
                    self._live = None
                    self._nursery = None
                    self._clients.clear()
                    self._messages.hush()
                    live.stop.set()
        finally:
            self._links.detach()

    async def _attend(self, live: Live, ready: _Once) -> None:
        """What runs beside a listening host."""
        self._listen = live.listening()
        async with trio.open_nursery() as nursery:
            self._live = live
            self._nursery = nursery
            self._messages.speak(nursery, self._open_one_way)
            self._register_swarm()
            nursery.start_soon(self._gossip.run, live.board, live.router)
            nursery.start_soon(self._keeper.run, self._dial)
            nursery.start_soon(self._links.sweep)
            log.info("listening", peer=self._own, addresses=live.addresses())
            ready()
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    async def _dial(self, peer: str, address: Multiaddr) -> None:
        live = self._running()
        if not self._links.connected(peer):
            await live.swarm.dial_addr(address, ID.from_string(peer))

    def _running(self) -> Live:
        if self._live is None:
            raise Unreachable("the network is being restarted", retry_after_s=self._settings.restart_first_s)
        return self._live

    # -- the port ------------------------------------------------------------------------------------------------

    @property
    def peer_id(self) -> str:
        return self._own

    def addresses(self) -> Sequence[str]:
        if self._settings.announce:
            return tuple(f"{text.partition('/p2p/')[0]}/p2p/{self._own}" for text in self._settings.announce)
        return self._live.addresses() if self._live else ()

    def connections(self) -> Sequence[Connection]:
        return self._links.connections()

    def publish(self, topic: str, data: bytes) -> None:
        self._gossip.publish(topic, data)

    def subscribe(self, topic: str) -> None:
        """Join a topic, now and after every rebuild of the host. The full name: `/edgenet/<swarm>/auction/1`."""
        self._gossip.subscribe(topic)

    async def call(self, channel: Channel, peer: str, request: bytes, *, timeout_s: float) -> bytes:
        if len(request) > self._settings.frame_bytes_max:
            limit = self._settings.frame_bytes_max
            raise TooLarge(f"a request of {len(request)} bytes, the limit is {limit}; send bulk data as an artifact")
        with trio.move_on_after(timeout_s):
            return await self._client(channel, peer).call(request)
        raise TimedOut(f"no answer within {timeout_s:g} s")

    def send(self, stream: str, peer: str, data: bytes) -> None:
        self._bound()
        if not self._links.connected(peer) or not self._admission.admitted(peer):
            raise Unreachable(f"not connected to {peer}")
        self._messages.send(stream, peer, data)

    async def fetch(self, peer: str, digest: str, *, size_max: int, timeout_s: float) -> int:
        protocol = BLOB.format(swarm=self._bound())
        with trio.move_on_after(timeout_s):
            return await self._fetcher.fetch(digest, size_max, lambda: self._open(peer, protocol))
        raise TimedOut(f"the transfer did not end within {timeout_s:g} s")

    def set_swarm(self, swarm: str) -> None:
        if not 0 < len(swarm) <= SWARM_CHARS_MAX or swarm.strip("0123456789abcdef"):
            raise UsageError(f"not a genesis fingerprint in lower-case hex: {swarm[:80]!r}")
        if self._swarm not in ("", swarm):
            raise Conflict(f"this node belongs to swarm {self._swarm}, it cannot join {swarm}")
        self._swarm = swarm
        self._register_swarm()

    def admit(self, peer: str) -> None:
        self._admission.admit(peer)

    def refuse(self, peer: str, reason: str) -> None:
        self._admission.refuse(peer, reason, trio.current_time())
        self._report.count("peers_refused")
        farewell = encode_error(0, Refused(reason))
        for server in self._servers.get(peer, ()):
            server.say(farewell)
        for (other, _channel), client in self._clients.items():
            if other == peer:
                client.say(farewell)
        if self._nursery is not None and self._links.connected(peer):
            self._nursery.start_soon(self._links.drop, peer)

    def pardon(self, peer: str) -> None:
        self._admission.pardon(peer)

    def learn(self, peer: str, addresses: Sequence[str], *, keep: bool) -> None:
        self._keeper.learn(peer, addresses, keep=keep)

    def counters(self) -> dict[str, int]:
        """Totals since the start, and a few present sizes."""
        return {
            **self._counters.snapshot(),
            "peers_connected": self._links.count(),
            "gossip_queued": self._gossip.queued,
        }

    # -- streams -------------------------------------------------------------------------------------------------

    def _bound(self) -> str:
        if not self._swarm:
            raise Unreachable("this node has not joined a swarm yet")
        return self._swarm

    def _client(self, channel: Channel, peer: str) -> Client:
        protocol = HELLO if channel == "hello" else RPC.format(swarm=self._bound())
        self._running()
        if not self._links.connected(peer) or self._nursery is None:
            raise Unreachable(f"not connected to {peer}")
        client = self._clients.get((peer, channel))
        if client is None:
            client = Client(lambda: self._open(peer, protocol), self._nursery, self._settings, self._report)
            self._clients[peer, channel] = client
        return client

    async def _open(self, peer: str, protocol: str) -> Pipe:
        try:
            stream = await self._running().host.new_stream(ID.from_string(peer), [TProtocol(protocol)])
        except StreamFailure as error:
            raise Unreachable(f"{peer} does not serve {protocol}") from error
        except (SwarmException, ValueError) as error:
            raise Unreachable(f"no stream to {peer}: {error}") from error
        return Pipe(stream)

    async def _open_one_way(self, peer: str, name: str) -> Pipe:
        return await self._open(peer, ONE_WAY.format(swarm=self._bound(), name=name))

    def _register_swarm(self) -> None:
        if self._live is not None and self._swarm:
            self._serve_on(self._live, TProtocol(RPC.format(swarm=self._swarm)), self._serve_rpc)
            self._serve_on(self._live, TProtocol(BLOB.format(swarm=self._swarm)), self._serve_blob)
            for kind in MESSAGES:
                self._serve_messages(self._live, kind.name)

    def _serve_on(self, live: Live, protocol: TProtocol, serve: Callable[[Pipe], Awaitable[None]]) -> None:
        async def handle(stream: Any) -> None:
            await serve(Pipe(stream))

        live.host.set_stream_handler(protocol, handle)

    def _serve_messages(self, live: Live, name: str) -> None:
        async def serve(pipe: Pipe) -> None:
            if await self._let_in(pipe):
                await self._messages.hear(name, pipe)

        self._serve_on(live, TProtocol(ONE_WAY.format(swarm=self._swarm, name=name)), serve)

    async def _serve_hello(self, pipe: Pipe) -> None:
        await self._serve_calls(pipe, "hello")

    async def _serve_rpc(self, pipe: Pipe) -> None:
        if await self._let_in(pipe):
            await self._serve_calls(pipe, "rpc")

    async def _serve_blob(self, pipe: Pipe) -> None:
        if await self._let_in(pipe):
            await self._blobs.serve(pipe)

    async def _serve_calls(self, pipe: Pipe, channel: Channel) -> None:
        async def handler(request: bytes) -> bytes:
            return await self._listener.on_call(channel, pipe.peer, request)

        server = Server(pipe, handler, self._settings, self._report)
        servers = self._servers.setdefault(pipe.peer, set())
        servers.add(server)
        try:
            clean = await server.run()
        finally:
            servers.discard(server)
            if not servers:
                self._servers.pop(pipe.peer, None)
        await (pipe.close() if clean else pipe.reset())

    async def _let_in(self, pipe: Pipe) -> bool:
        """Wait for the decision on an undecided peer; tell one that stays outside why."""
        decision = await self._admission.wait(pipe.peer, trio.current_time())
        if decision.state == "admitted":
            return True
        self._report.count("streams_unadmitted")
        if decision.state == "refused":
            error = Refused(decision.reason)
        else:
            error = Refused("not admitted yet", retry_after_s=self._settings.admission_wait_s)
        try:
            await pipe.send(encode_error(0, error))
        except StreamBroken:
            return False
        await pipe.close()
        return False

    # -- connections ---------------------------------------------------------------------------------------------

    def _kept(self, peer: str) -> bool:
        return self._keeper.kept(peer)

    def _joined(self, peer: str, outbound: bool) -> None:
        self._keeper.connected(peer)
        self._listener.on_connected(peer, outbound)

    def _left(self, peer: str) -> None:
        self._clients.pop((peer, "hello"), None)
        self._clients.pop((peer, "rpc"), None)
        self._messages.left(peer)
        self._keeper.disconnected(peer)
        self._listener.on_disconnected(peer)


class _Once:
    """Calls `task_status.started` the first time a host listens."""

    def __init__(self, started: Callable[[], None]) -> None:
        self._started = started
        self.done = False

    def __call__(self) -> None:
        if not self.done:
            self.done = True
            self._started()


def _first(group: BaseExceptionGroup[Any]) -> Exception:
    """The first leaf; a `ConfigError` before others."""
    leaves: list[Exception] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        elif isinstance(error, Exception):
            leaves.append(error)
    return next((leaf for leaf in leaves if isinstance(leaf, ConfigError)), leaves[0])


def _multiaddr(field: str, text: str) -> Multiaddr:
    try:
        return Multiaddr(text)
    except Exception as error:
        raise ConfigError(f"network.{field} {text!r}: not a multiaddr, like /ip4/0.0.0.0/tcp/4001") from error
