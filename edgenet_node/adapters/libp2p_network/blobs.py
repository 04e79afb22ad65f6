"""Artifacts over streams of their own, so that bulk data never stands in front of a call.

One stream per fetch, two frames each way, then raw bytes:

    fetcher -> request 1: 32-byte SHA-256        server -> response 1: u64 size of the artifact, or an error
    fetcher -> request 2: u64 offset             server -> the raw bytes from the offset to the end

The fetcher writes into the artifact store, which resumes what an earlier try left (hence the offset), and verifies the
SHA-256 of the whole before anything can see it. A mismatch is blamed on the server only if every byte came from it: an
interrupted copy may hold another peer's lie. Then the partial copy is gone, and the next fetch starts from nothing.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from ...errors import Malformed, NotFound, Overloaded, StoreError, TimedOut, TooLarge, Unreachable, UsageError
from ...ports.store import ArtifactStore, ArtifactWriter
from .framed import FrameReader
from .frames import ERROR, REQUEST, RESPONSE, FrameDecoder, decode_error, encode, encode_error
from .limits import NetworkSettings
from .muxer import StreamBroken, StreamEnded
from .pipe import Pipe
from .report import Report

STORE_CHUNK_BYTES: Final = 256 << 10
"""The chunk of the artifact store's port."""

READ_AHEAD_CHUNKS: Final = 4
ANSWER_BYTES_MAX: Final = 4 << 10
BUSY_RETRY_S: Final = 1.0
_U64 = struct.Struct(">Q")

Sink = Callable[[bytes], Awaitable[None]]


async def pump(produce: Callable[[Sink], Awaitable[None]], consume: Sink) -> None:
    """Disk and network at once: `produce` runs up to `READ_AHEAD_CHUNKS` ahead of `consume`. Raises the first error,
    after what was produced before it is consumed."""
    send, receive = trio.open_memory_channel[bytes](READ_AHEAD_CHUNKS)
    failed: list[Exception] = []

    async def producing() -> None:
        async with send:
            try:
                await produce(send.send)
            except Exception as error:  # noqa: BLE001 - raised below, outside the nursery's exception group
                failed.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(producing)
        try:
            async for chunk in receive:
                await consume(chunk)
        except Exception as error:  # noqa: BLE001
            failed.append(error)
            nursery.cancel_scope.cancel()
    if failed:
        raise failed[0]


class BlobServer:
    def __init__(self, store: ArtifactStore, settings: NetworkSettings, report: Report) -> None:
        self._store = store
        self._settings = settings
        self._report = report
        self._serving: Counter[str] = Counter()

    async def serve(self, pipe: Pipe) -> None:
        """One fetch of an admitted peer."""
        peer = pipe.peer
        if self._serving[peer] >= self._settings.blobs_served_per_peer_max:
            self._report.count("blobs_refused_busy")
            await pipe.send(encode_error(1, Overloaded("too many transfers at once", retry_after_s=BUSY_RETRY_S)))
            await pipe.close()
            return
        self._serving[peer] += 1
        try:
            await self._serve(pipe)
        except (Malformed, TooLarge) as error:
            self._report.blame(peer, "frames_malformed", f"an artifact request: {error.message}")
            await pipe.reset()
        except TimedOut:
            self._report.blame(peer, "frames_trickled", "an artifact request that did not end")
            await pipe.reset()
        except StreamBroken:
            self._report.count("blobs_broken")
        finally:
            self._serving[peer] -= 1
            if self._serving[peer] <= 0:
                del self._serving[peer]

    async def _serve(self, pipe: Pipe) -> None:
        reader = FrameReader(pipe, self._settings)
        digest = (await self._request(reader, 1, 32)).hex()
        size = self._store.size(digest)
        if size < 0:
            await pipe.send(encode_error(1, NotFound(f"no artifact {digest[:16]} here")))
            await pipe.close()
            return
        await pipe.send(encode(RESPONSE, 1, _U64.pack(size)))
        (offset,) = _U64.unpack(await self._request(reader, 2, _U64.size))
        if offset > size:
            raise Malformed(f"offset {offset} of {size} bytes")

        async def chunks(sink: Sink) -> None:
            first, skip = divmod(offset, STORE_CHUNK_BYTES)
            for index in range(first, -(-size // STORE_CHUNK_BYTES)):
                chunk = await self._store.read_chunk(digest, index)
                await sink(chunk[skip:] if index == first else chunk)

        try:
            await pump(chunks, pipe.send)
        except (StoreError, NotFound) as error:
            # Too late for an error frame, the raw bytes have begun: a reset tells the fetcher to try elsewhere.
            self._report.fault("blob read", error)
            await pipe.reset()
            return
        self._report.count("blobs_served")
        await pipe.close()

    async def _request(self, reader: FrameReader, frame_id: int, size: int) -> bytes:
        frame = await reader.next()
        if frame is None:
            raise StreamBroken("the fetcher left")
        if frame.kind != REQUEST or frame.id != frame_id or len(frame.payload) != size:
            raise Malformed(f"kind {frame.kind}, id {frame.id}, {len(frame.payload)} bytes")
        return frame.payload


class BlobFetcher:
    def __init__(self, store: ArtifactStore, settings: NetworkSettings, report: Report) -> None:
        self._store = store
        self._settings = settings
        self._report = report
        self._places = trio.Semaphore(settings.blobs_fetched_max)
        self._running: dict[str, trio.Event] = {}

    async def fetch(self, digest: str, size_max: int, open_stream: Callable[[], Awaitable[Pipe]]) -> int:
        """The size of the artifact, which is in the store afterwards. Two fetches of one digest become one."""
        if len(digest) != 64 or digest.strip("0123456789abcdef"):
            raise UsageError(f"not a SHA-256 in lower-case hex: {digest[:80]!r}")
        while digest in self._running:
            await self._running[digest].wait()
        if (size := self._store.size(digest)) >= 0:
            return size
        done = self._running[digest] = trio.Event()
        try:
            async with self._places:
                pipe = await open_stream()
                try:
                    return await self._fetch(digest, size_max, pipe)
                except (StreamBroken, StreamEnded) as error:
                    raise Unreachable(f"the transfer broke off: {error}") from error
                finally:
                    await pipe.reset()
        finally:
            del self._running[digest]
            done.set()

    async def _fetch(self, digest: str, size_max: int, pipe: Pipe) -> int:
        await pipe.send(encode(REQUEST, 1, bytes.fromhex(digest)))
        size = await self._size(pipe)
        if size > size_max:
            raise TooLarge(f"artifact {digest[:16]} has {size} bytes, the limit is {size_max}", peer=pipe.peer)
        writer = await self._store.begin(digest, size)
        resumed = writer.received
        if resumed > size:
            await writer.abandon()
            raise Unreachable(f"the partial copy of artifact {digest[:16]} is longer than it: dropped, try again")
        await pipe.send(encode(REQUEST, 2, _U64.pack(resumed)))
        await self._copy(pipe, writer, size - resumed)
        try:
            await writer.finish()
        except Malformed as error:
            if resumed:
                raise Unreachable(
                    f"a resumed copy of artifact {digest[:16]} does not verify: dropped, try again"
                ) from error
            self._report.blame(pipe.peer, "blobs_mismatched", f"other bytes than artifact {digest[:16]}")
            raise Malformed(f"artifact {digest[:16]} does not verify", peer=pipe.peer) from error
        self._report.count("blobs_fetched")
        self._report.count("blob_bytes_fetched", size - resumed)
        return size

    async def _copy(self, pipe: Pipe, writer: ArtifactWriter, left: int) -> None:
        async def chunks(sink: Sink) -> None:
            missing = left
            while missing:
                chunk = bytearray()
                try:
                    while missing and len(chunk) < STORE_CHUNK_BYTES:
                        data = await self._receive(pipe, min(missing, STORE_CHUNK_BYTES - len(chunk)))
                        chunk += data
                        missing -= len(data)
                finally:
                    if chunk:
                        await sink(bytes(chunk))

        await pump(chunks, writer.write)

    async def _receive(self, pipe: Pipe, size_max: int) -> bytes:
        with trio.move_on_after(self._settings.trickle_timeout_s):
            return await pipe.receive(size_max)
        raise TimedOut("the transfer stalled")

    async def _size(self, pipe: Pipe) -> int:
        """The server's first answer; it sends nothing more before it is told the offset."""
        decoder = FrameDecoder(ANSWER_BYTES_MAX)
        try:
            while (frame := decoder.next()) is None:
                decoder.feed(await self._receive(pipe, ANSWER_BYTES_MAX))
            if frame.kind == ERROR:
                raise decode_error(frame.payload, pipe.peer)
            if frame.kind != RESPONSE or frame.id != 1 or len(frame.payload) != _U64.size:
                raise Malformed(f"kind {frame.kind}, {len(frame.payload)} bytes")
        except (Malformed, TooLarge) as error:
            if error.peer:
                raise
            self._report.blame(pipe.peer, "frames_malformed", f"an artifact answer: {error.message}")
            raise Malformed(f"an artifact answer: {error.message}", peer=pipe.peer) from error
        (size,) = _U64.unpack(frame.payload)
        return int(size)
