"""Cables between nodes that a test can cut: every node announces a forwarder's address instead of its own, and each
connection is known by the two nodes that it joins. A cut cable swallows: connections stay, nothing arrives."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable

import psutil

_BUFFER_BYTES = 65536


class Cables:
    """`pids` says which process each named node is at the moment: who dialled is found by the port it dialled from."""

    def __init__(self, pids: Callable[[], dict[str, int]]) -> None:
        self._pids = pids
        self._cut: set[tuple[str, str]] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._sockets: set[socket.socket] = set()
        self._ports: dict[str, tuple[int, int]] = {}

    def front(self, name: str) -> tuple[int, int]:
        """The port where others find this node, and the port where it shall listen."""
        if name not in self._ports:
            listener = socket.create_server(("127.0.0.1", 0))
            with socket.create_server(("127.0.0.1", 0)) as free:
                target = free.getsockname()[1]
            self._sockets.add(listener)
            self._ports[name] = listener.getsockname()[1], target
            threading.Thread(target=self._accept, args=(listener, name, target), daemon=True).start()
        return self._ports[name]

    # ---- what a test does

    def isolate(self, name: str, others: Iterable[str]) -> None:
        """Neither from nor to any of them."""
        with self._changed:
            for other in others:
                if other != name:
                    self._cut |= {(name, other), (other, name)}

    def cut(self, one: str, other: str) -> None:
        """One way."""
        with self._changed:
            self._cut.add((one, other))

    def mend(self) -> None:
        with self._changed:
            self._cut.clear()
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            for one in self._sockets:
                one.close()

    # ---- threads

    def _accept(self, listener: socket.socket, name: str, target: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, address = listener.accept()
                threading.Thread(target=self._join, args=(near, address[1], name, target), daemon=True).start()

    def _join(self, near: socket.socket, port: int, name: str, target: int) -> None:
        dialler = self._dialler(port)
        if not self._passes(dialler, name):
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", target))
        except OSError:
            near.close()
            return
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._changed:
            self._sockets |= {near, far}
        threading.Thread(target=self._carry, args=(near, far, dialler, name), daemon=True).start()
        self._carry(far, near, name, dialler)

    def _dialler(self, port: int) -> str:
        for name, pid in self._pids().items():
            with contextlib.suppress(psutil.Error):
                if any(one.laddr.port == port for one in psutil.Process(pid).net_connections("tcp")):
                    return name
        return ""

    def _passes(self, one: str, other: str) -> bool:
        """Once it does: what was sent before waits, as on a real line. False when all is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (one, other) not in self._cut)
            return not self._closed

    def _carry(self, source: socket.socket, sink: socket.socket, one: str, other: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BUFFER_BYTES):
                if not self._passes(one, other):
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        with self._changed:
            self._sockets -= {source, sink}
