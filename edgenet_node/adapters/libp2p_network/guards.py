"""The host's vital parts, subclassed so that no byte from a peer can end it.

What py-libp2p 0.8.1 does by itself, and what is done about it here:

* An exception in a stream handler ends the host: every handler runs behind a catch-all that resets its stream only.
* A multistream-select message has no size limit, before or after the handshake: reads are bounded in both places.
* The place of an inbound connection is freed only when the host ends, so that the 300th connection in its life is the
  last: the accepting task here ends with its connection.
* The auto-connector dials known peers up to half of the *high* watermark, whatever the low one says: ours is idle, the
  keeper does the dialling.
* The stream, connection and rate limits of its resource manager refuse honest reconnects and leak: it is not used; the
  few limits that matter are enforced in `add_conn` and in the stream handler.
* Every opened and closed stream starts a task per notifee; nothing here listens to those two events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import structlog
import trio
from libp2p.host.basic_host import BasicHost
from libp2p.host.exceptions import StreamFailure
from libp2p.io.exceptions import IOException
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.protocol_muxer.exceptions import MultiselectClientError, MultiselectCommunicatorError, MultiselectError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.transport.exceptions import MuxerUpgradeFailure
from libp2p.transport.upgrader import TransportUpgrader
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from .limits import NetworkSettings
from .muxer import GuardedYamux
from .report import Report
from .turns import quicken

log = structlog.get_logger("network")

NEGOTIATION_MESSAGE_BYTES_MAX: Final = 1024
"""A multistream-select message is one protocol name; ours have fewer than 100 characters."""

HANDSHAKE_BYTES_MAX: Final = 64 << 10
"""All that a peer may send before it is authenticated and a muxer is agreed on: three Noise messages and four names."""

FLOOD_FACTOR: Final = 4
"""A peer that was refused this many times its stream limit on one connection loses the connection."""


class Gate(Protocol):
    """Decides about connections. Returns the reason for refusing one, or an empty string."""

    def refuses(self, peer: str, inbound: bool) -> str: ...


class BoundedCommunicator(MultiselectCommunicator):  # type: ignore[misc]
    """Multistream-select with a size limit on every message, and without foreign exceptions."""

    async def read(self) -> str:
        try:
            data = await read_varint_prefixed_bytes_limited(self.read_writer, NEGOTIATION_MESSAGE_BYTES_MAX)
            text: str = data.decode()
        except Exception as error:
            raise MultiselectCommunicatorError("no negotiation message") from error
        if not text.endswith("\n"):
            raise MultiselectCommunicatorError("a negotiation message without its newline")
        return text[:-1]


class ReadBudget:
    """Lets a connection deliver `HANDSHAKE_BYTES_MAX` bytes and then nothing, until `lift`."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self._read = conn.read
        self._left = HANDSHAKE_BYTES_MAX
        conn.read = self._bounded_read

    async def _bounded_read(self, n: int | None = None) -> bytes:
        if self._left <= 0:
            return b""
        data: bytes = await self._read(n)
        self._left -= len(data)
        return data

    def lift(self) -> None:
        self._conn.read = self._read
        quicken(self._conn)


class GuardedUpgrader(TransportUpgrader):  # type: ignore[misc]
    """Bounds what a stranger may send, and builds the guarded muxer where the library has its own written in."""

    def __init__(self, security: Any, settings: NetworkSettings, report: Report) -> None:
        super().__init__(security, {YAMUX: GuardedYamux}, negotiate_timeout=settings.handshake_timeout_s)
        self._settings = settings
        self._report = report

    async def upgrade_security(self, raw_conn: Any, is_initiator: bool, peer_id: Any = None) -> Any:
        budget = ReadBudget(raw_conn)
        session = await super().upgrade_security(raw_conn, is_initiator, peer_id)
        session.read_budget = budget
        return session

    async def upgrade_connection(self, conn: Any, peer_id: Any) -> Any:
        try:
            await self.muxer_multistream.select_transport(conn)
        except (MultiselectError, MultiselectClientError) as error:
            raise MuxerUpgradeFailure("no common muxer") from error
        conn.read_budget.lift()
        return GuardedYamux(conn, peer_id, self._settings, self._report)


class IdleConnector(AutoConnector):  # type: ignore[misc]
    async def maybe_connect(self) -> None:
        return None

    def record_disconnect(self, peer_id: Any) -> None:
        return None


class GuardedSwarm(Swarm):  # type: ignore[misc]
    def __init__(self, *args: Any, gate: Gate, settings: NetworkSettings, report: Report, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auto_connector = IdleConnector(swarm=self)
        self.set_resource_manager(None)
        self._gate = gate
        self._report = report
        self._settings = settings

    async def upgrade_inbound_raw_conn(self, raw_conn: Any, maddr: Any) -> Any:
        """Upgrade, then stay until the connection ends: returning frees its place."""
        muxed = await super().upgrade_inbound_raw_conn(raw_conn, maddr)
        await muxed.event_closed.wait()
        raise SwarmException("the connection has ended")

    async def add_conn(self, muxed_conn: Any, direction: str = "unknown") -> Any:
        """The handshake is done, so the peer is known: the one place where it is let in or not."""
        reason = self._gate.refuses(muxed_conn.peer_id.to_base58(), direction == "inbound")
        if reason:
            self._report.count("connections_refused")
            await muxed_conn.close()
            raise SwarmException(f"connection refused: {reason}")
        return await super().add_conn(muxed_conn, direction)

    async def notify_opened_stream(self, stream: Any) -> None:
        return None

    async def notify_closed_stream(self, stream: Any) -> None:
        return None


class GuardedHost(BasicHost):  # type: ignore[misc]
    def __init__(self, network: GuardedSwarm, settings: NetworkSettings, report: Report, **kwargs: Any) -> None:
        self._settings = settings
        self._report = report
        self._inbound: Counter[str] = Counter()
        super().__init__(network, **kwargs)

    async def _swarm_stream_handler(self, net_stream: Any) -> None:
        """Agree on a protocol and run its handler. Nothing that happens here reaches the connection or the host."""
        muxed = net_stream.muxed_conn
        peer = muxed.peer
        if self._inbound[peer] >= self._settings.streams_per_peer_max:
            await self._refuse_stream(net_stream)
            return
        self._inbound[peer] += 1
        try:
            protocol, handler = await self.multiselect.negotiate(
                BoundedCommunicator(net_stream), self._settings.open_timeout_s
            )
            net_stream.set_protocol(protocol)
            await handler(net_stream)
        except (MultiselectError, IOException, TypeError) as error:
            self._report.count("streams_failed")
            log.debug("stream failed", peer=peer, error=str(error))
            await net_stream.reset()
        except Exception as error:  # noqa: BLE001 - as shipped, any exception here ends the host
            self._report.fault("stream handler", error)
            await net_stream.reset()
        finally:
            self._inbound[peer] -= 1
            if self._inbound[peer] <= 0:
                del self._inbound[peer]

    async def _refuse_stream(self, net_stream: Any) -> None:
        muxed = net_stream.muxed_conn
        muxed.streams_refused += 1
        limit = self._settings.streams_per_peer_max
        self._report.blame(muxed.peer, "streams_flooded", f"opened more than {limit} streams at once")
        if muxed.streams_refused > FLOOD_FACTOR * limit:
            await muxed.abort()
        else:
            await net_stream.reset()

    async def new_stream(self, peer_id: Any, protocol_ids: Sequence[Any]) -> Any:
        """Open a stream on the busiest live connection; never dials. `SwarmException` or `StreamFailure`."""
        live = [c for c in self._network.get_connections(peer_id) if not c.is_closed and c.event_started.is_set()]
        if not live:
            raise SwarmException(f"not connected to {peer_id}")
        connection = max(live, key=lambda c: len(c.get_streams()))
        stream: Any = None
        agreed = False
        try:
            with trio.fail_after(self._settings.open_timeout_s):
                stream = await connection.new_stream()
                protocol = await self.multiselect_client.select_one_of(
                    list(protocol_ids), BoundedCommunicator(stream), self._settings.open_timeout_s
                )
            stream.set_protocol(protocol)
            agreed = True
            return stream
        except trio.TooSlowError as error:
            raise SwarmException("opening a stream timed out") from error
        except MultiselectClientError as error:
            raise StreamFailure("the peer does not speak this protocol") from error
        except IOException as error:
            raise SwarmException(f"opening a stream failed: {error}") from error
        finally:
            if stream is not None and not agreed:
                with trio.CancelScope(shield=True):
                    await stream.reset()


class GuardedTasks:
    """A service's task manager whose tasks cannot end the service; its daemons still do, which rebuilds the host."""

    def __init__(self, manager: Any, report: Report) -> None:
        self._manager = manager
        self._report = report

    @property
    def is_running(self) -> bool:
        return bool(self._manager.is_running)

    def run_task(self, task: Callable[..., Awaitable[None]], *args: Any, name: str | None = None) -> None:
        async def survive() -> None:
            try:
                await task(*args)
            except Exception as error:  # noqa: BLE001 - as shipped, any exception here ends the host
                self._report.fault(task.__name__, error)

        self._manager.run_task(survive, name=name or task.__name__)

    def run_daemon_task(self, task: Callable[..., Awaitable[None]], *args: Any) -> None:
        self._manager.run_daemon_task(task, *args)

    async def wait_finished(self) -> None:
        await self._manager.wait_finished()
