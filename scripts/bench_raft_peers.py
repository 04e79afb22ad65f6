#!/usr/bin/env python3
"""Peers for `bench_raft.py`: three processes of PySyncObj and three of etcd on loopback, with commands in flight.

Both are asked in the way that favours them: PySyncObj in the leader's own process, the next command out of the answer
of the last (no client, no wire), batching off, in memory; etcd over kept connections to its leader, one each, by its
JSON gateway, its disk synced as it does by itself. As a program (`--pysyncobj`) this is one PySyncObj process and needs
nothing but that package.
"""

from __future__ import annotations

import argparse
import base64
import json
import selectors
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

START_S = 30.0


def figures(times: list[float], took: float) -> dict[str, float]:
    times.sort()
    return {
        "per_s": round(len(times) / took, 1),
        "p50_ms": round(1e3 * times[len(times) // 2], 3),
        "p99_ms": round(1e3 * times[len(times) * 99 // 100], 3),
    }


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


# ---- PySyncObj


def pysyncobj_member(own: int, others: Sequence[int], payload: int) -> None:
    """One process: obeys lines of JSON, answers each with one."""
    from pysyncobj import SyncObj, SyncObjConf, replicated  # type: ignore[import-not-found, unused-ignore]

    class Counter(SyncObj):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            settings = SyncObjConf(appendEntriesUseBatch=False)
            super().__init__(f"127.0.0.1:{own}", [f"127.0.0.1:{port}" for port in others], settings)
            self.count = 0

        @replicated  # type: ignore[misc, unused-ignore]
        def add(self, data: bytes) -> int:
            self.count += 1
            return self.count

    counter = Counter()
    data = b"x" * payload

    def load(clients: int, seconds: float) -> dict[str, float]:
        times: list[float] = []
        done = threading.Event()
        left = clients
        end = time.perf_counter() + seconds

        def go(called: float) -> None:
            def answered(_result: Any, _error: Any) -> None:
                nonlocal left
                now = time.perf_counter()
                times.append(now - called)
                if now < end:
                    go(now)
                else:
                    left -= 1
                    if not left:
                        done.set()

            counter.add(data, callback=answered)

        began = time.perf_counter()
        for _ in range(clients):
            go(began)
        done.wait(seconds + START_S)
        return figures(times, time.perf_counter() - began)

    print(json.dumps("up"), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "leads":
            print(json.dumps(bool(counter.isReady() and counter._isLeader())), flush=True)
        else:
            print(json.dumps(load(order["clients"], order["seconds"])), flush=True)


class PySyncObj:
    name = "pysyncobj"

    def __init__(self, python: str, payload: int) -> None:
        ports = free_ports(3)
        self._processes = []
        for port in ports:
            others = [str(other) for other in ports if other != port]
            command = [python, __file__, "--pysyncobj", str(port), *others, "--payload", str(payload)]
            self._processes.append(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            )
        for process in self._processes:
            self._read(process)
        self._leader = self._find_leader()

    @staticmethod
    def _read(process: Any) -> Any:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("a PySyncObj process ended")
        return json.loads(line)

    def _do(self, process: Any, **order: Any) -> Any:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return self._read(process)

    def _find_leader(self) -> Any:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            for process in self._processes:
                if self._do(process, do="leads"):
                    return process
            time.sleep(0.1)
        raise RuntimeError("no leader among PySyncObj's")

    def load(self, clients: int, seconds: float) -> dict[str, float]:
        found: dict[str, float] = self._do(self._leader, do="load", clients=clients, seconds=seconds)
        return found

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


# ---- etcd


class _Connection:
    """One client: the next put when the last is answered."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._got = b""
        self.called = 0.0

    def put(self) -> None:
        self._got = b""
        self.called = time.perf_counter()
        self.socket.sendall(self._request)

    def read(self) -> bool:
        """Whether the answer is whole now."""
        data = self.socket.recv(65536)
        if not data:
            raise RuntimeError("etcd closed a connection")
        self._got += data
        head, split, body = self._got.partition(b"\r\n\r\n")
        if not split:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"etcd answered {head[:80]!r}")
        lower = head.lower()
        place = lower.find(b"content-length:")
        if place < 0:
            return body.endswith(b"0\r\n\r\n")
        return len(body) >= int(lower[place + 15 :].split(b"\r\n", 1)[0])


class Etcd:
    name = "etcd"

    def __init__(self, folder: Path, payload: int) -> None:
        program = shutil.which("etcd")
        if program is None:
            raise RuntimeError("etcd is not installed")
        ports = free_ports(6)
        self._clients, peers = ports[:3], ports[3:]
        cluster = ",".join(f"m{n}=http://127.0.0.1:{port}" for n, port in enumerate(peers))
        self._processes = []
        for n in range(3):
            client, peer = (f"http://127.0.0.1:{port}" for port in (self._clients[n], peers[n]))
            command = [program, "--name", f"m{n}", "--data-dir", str(folder / f"m{n}"), "--log-level", "fatal"]
            command += ["--logger", "zap", "--initial-cluster", cluster, "--initial-cluster-state", "new"]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            self._processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        key, value = (base64.b64encode(one).decode() for one in (b"bench", b"x" * payload))
        body = json.dumps({"key": key, "value": value}).encode()
        self._request = self._post("/v3/kv/put", body)
        self._leader = self._find_leader()

    @staticmethod
    def _post(path: str, body: bytes) -> bytes:
        return f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def _find_leader(self) -> int:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            for port in self._clients:
                try:
                    seen = self._status(port)
                except (OSError, RuntimeError, ValueError):
                    continue
                if seen.get("leader") and seen["leader"] == seen["header"]["member_id"]:
                    return port
            time.sleep(0.1)
        raise RuntimeError("no leader among etcd's")

    def _status(self, port: int) -> Any:
        connection = _Connection(port, self._post("/v3/maintenance/status", b"{}"))
        try:
            connection.put()
            while not connection.read():
                pass
            return json.loads(connection._got.partition(b"\r\n\r\n")[2])
        finally:
            connection.socket.close()

    def load(self, clients: int, seconds: float) -> dict[str, float]:
        times: list[float] = []
        connections = [_Connection(self._leader, self._request) for _ in range(clients)]
        with selectors.DefaultSelector() as ready:
            for one in connections:
                ready.register(one.socket, selectors.EVENT_READ, one)
            began = time.perf_counter()
            end = began + seconds
            for one in connections:
                one.put()
            left = clients
            while left:
                for key, _ in ready.select(START_S):
                    one = key.data
                    if not one.read():
                        continue
                    now = time.perf_counter()
                    times.append(now - one.called)
                    if now < end:
                        one.put()
                    else:
                        left -= 1
            took = time.perf_counter() - began
        for one in connections:
            one.socket.close()
        return figures(times, took)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pysyncobj", type=int, nargs=3, metavar="PORT", required=True)
    parser.add_argument("--payload", type=int, default=64)
    options = parser.parse_args(argv)
    own, *others = options.pysyncobj
    pysyncobj_member(own, others, options.payload)


if __name__ == "__main__":
    main(sys.argv[1:])
