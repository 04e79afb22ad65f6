"""What goes wrong with a committee. Each is seeded, counted, and over by itself; what it broke for good is the
operator's to mend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import structs

from ...errors import EdgenetError
from ...messages.raft import TakeSnapshot, TransferLeadership
from ..events.host import Host
from ..events.loop import Script
from ..events.network import LinkPlan
from ..events.world import FaultKind, Strike
from .committee import Committee
from .watch import PART, member_of


def _of(strike: Strike) -> Committee:
    committee: Committee = strike.run
    return committee


def _pauses(strike: Strike, most: int) -> Iterator[float]:
    """One to `most` moments in the first nine tenths of the window, as pauses between them."""
    moments = sorted(strike.rng.uniform(0.5, 0.9 * strike.window_s) for _ in range(strike.rng.randint(1, most)))
    before = 0.0
    for moment in moments:
        yield moment - before
        before = moment


def _somebody(strike: Strike) -> Host:
    """Mostly whoever leads: it has the most to lose."""
    committee = _of(strike)
    leader = committee.leader()
    if leader is not None and strike.rng.random() < 0.5:
        return leader
    return strike.rng.choice(committee.hosts)


# ---- machines


def crash(strike: Strike) -> Script:
    """Power loss: commits on their way reach the disk or not."""
    committee = _of(strike)
    for pause in _pauses(strike, 4):
        yield pause
        host = _somebody(strike)
        if host.running:
            committee.world.journal.count("crash", host.name, "power loss")
            host.crash()
            committee.world.loop.spawn(_back(strike, host))


def _back(strike: Strike, host: Host) -> Script:
    yield strike.rng.choice((0.01, 0.5, 3.0)) * strike.rng.uniform(0.5, 1.5)
    _of(strike).start(host)


def restarts(strike: Strike) -> Script:
    """Hosts go down and come back at once, again and again, also in the middle of elections."""
    committee, rng = _of(strike), strike.rng
    yield rng.uniform(0.0, strike.window_s / 2)
    for _ in range(rng.randint(10, 60)):
        yield rng.uniform(0.0, 0.4)
        host = rng.choice(committee.hosts)
        if host.running:
            committee.world.journal.count("restart", host.name, "in no time")
            host.crash()
            yield rng.uniform(0.0, 0.01)
            committee.start(host)


def crash_all(strike: Strike) -> Script:
    """The whole committee loses power at once."""
    committee = _of(strike)
    yield strike.rng.uniform(2.0, 0.9 * strike.window_s)
    committee.world.journal.count("crash of all", "", "power loss everywhere")
    for host in committee.hosts:
        if host.running:
            host.crash()
            committee.world.loop.spawn(_back(strike, host))


def freeze(strike: Strike) -> Script:
    """A process stands still for longer than an election, and wakes up thinking that nothing has happened."""
    committee = _of(strike)
    for pause in _pauses(strike, 3):
        yield pause
        host = _somebody(strike)
        for_s = strike.rng.choice((0.3, 1.5, 4.0)) * strike.rng.uniform(0.5, 1.5)
        committee.world.journal.count("freeze", host.name, "for %.2f s", for_s)
        host.freeze(for_s)


# ---- the network


def partition(strike: Strike) -> Script:
    """Two sides, cut in both directions or in one."""
    committee, rng = _of(strike), strike.rng
    for pause in _pauses(strike, 3):
        yield pause
        peers = [host.peer for host in committee.hosts]
        if rng.random() < 0.5:  # clients are on one side, too, and do not see everybody
            peers += [client.peer for client in committee.clients]
        rng.shuffle(peers)
        leader = committee.leader()
        some = [leader.peer] if leader is not None and rng.random() < 0.5 else peers[: rng.randint(1, len(peers))]
        kind = rng.choice(("partition", "asymmetric partition", "asymmetric partition"))
        outward = rng.random() < 0.5
        pairs = [(one, other) for one in some for other in peers if other not in some]
        ways = pairs if outward else [(other, one) for one, other in pairs]
        if kind == "partition":
            ways = [*pairs, *((other, one) for one, other in pairs)]
        names = [committee.world.names.get(peer, "client") for peer in some]
        committee.world.journal.count(kind, "", "%s, %s", names, "outward" if outward else "inward")
        committee.world.loop.spawn(_mend(strike, ways))


def _mend(strike: Strike, ways: Sequence[tuple[str, str]]) -> Script:
    network = _of(strike).world.network
    for one, other in ways:
        network.cut(one, other)
    yield strike.rng.uniform(0.5, strike.window_s / 3)
    for one, other in ways:
        network.mend(one, other)


def depose(strike: Strike) -> Script:
    """Each leader is cut off soon after its election, and the one before comes back: figure 8 of the paper, mostly."""
    committee, rng = _of(strike), strike.rng
    network = committee.world.network
    start = rng.uniform(0.0, strike.window_s / 2)
    yield start
    until = committee.world.loop.now + rng.uniform(3.0, strike.window_s - start)
    gone: Host | None = None
    while committee.world.loop.now < until:
        yield 0.02
        leader = committee.leader()
        if leader is None or leader is gone:
            continue
        yield rng.uniform(0.0, rng.choice((0.05, 0.3, 1.0)))
        committee.world.journal.count("deposed leader", leader.name, "cut off from the other members")
        network.mend_all()
        for other in committee.hosts:
            if other is not leader:
                network.cut(leader.peer, other.peer)
                network.cut(other.peer, leader.peer)
        gone = leader
    network.mend_all()


def slow_link(strike: Strike) -> Script:
    """One direction between two hosts takes long."""
    committee, rng = _of(strike), strike.rng
    for pause in _pauses(strike, 3):
        yield pause
        if len(committee.hosts) < 2:
            return
        one, other = rng.sample(committee.hosts, 2)
        slow = rng.choice((0.05, 0.3, 1.2))
        committee.world.journal.count("slow link", one.name, "to %s: %.2f s", other.name, slow)
        plan = structs.replace(committee.world.network.default, delay_min_s=slow, delay_max_s=2 * slow)
        committee.world.network.set_link(one.peer, other.peer, plan)
        yield rng.uniform(1.0, strike.window_s / 4)
        committee.world.network.set_link(one.peer, other.peer, None)


def lost_connection(strike: Strike) -> Script:
    committee, rng = _of(strike), strike.rng
    for pause in _pauses(strike, 6):
        yield pause
        if len(committee.hosts) < 2:
            return
        one, other = rng.sample(committee.hosts, 2)
        committee.world.journal.count("lost connection", one.name, "to %s", other.name)
        committee.world.network.disconnect(one.peer, other.peer)


def bad_network(strike: Strike) -> Script:
    """Drop, duplicate, reorder, delay: for a while, everywhere."""
    committee, rng = _of(strike), strike.rng
    network = committee.world.network
    before = network.default
    yield rng.uniform(0.0, strike.window_s / 2)
    plan = LinkPlan(
        delay_min_s=0.0005,
        delay_max_s=rng.choice((0.005, 0.05, 0.2)),
        loss=rng.choice((0.0, 0.02, 0.1, 0.3)),
        duplicate=rng.choice((0.0, 0.05, 0.3)),
        reorder=rng.choice((0.0, 0.1, 0.5)),
        slow=rng.choice((0.0, 0.05)),
        slow_s=rng.choice((0.3, 2.0)),
    )
    committee.world.journal.count("bad network", "", "%s", plan)
    network.default = plan
    yield rng.uniform(1.0, strike.window_s / 2)
    if not committee.peace:
        network.default = before


# ---- disks


def fsync_error(strike: Strike) -> Script:
    """The first one ends the member; it starts again, with what the disk happened to keep."""
    committee, rng = _of(strike), strike.rng
    yield rng.uniform(1.0, 0.8 * strike.window_s)
    host = _somebody(strike)
    if not host.running:
        return
    committee.world.journal.count("fsync error", host.name, "soon")
    host.disk_of(PART).sync_fails_after = rng.randint(0, 3)
    life = host.life
    for _ in range(200):
        yield 0.1
        if host.failure or host.life != life:
            break
    host.disk_of(PART).sync_fails_after = -1
    yield rng.uniform(0.1, 2.0)
    committee.start(host)


def full_disk(strike: Strike) -> Script:
    committee, rng = _of(strike), strike.rng
    yield rng.uniform(1.0, 0.8 * strike.window_s)
    host = _somebody(strike)
    committee.world.journal.count("full disk", host.name, "for a while")
    host.disk_of(PART).full = True
    yield rng.uniform(0.5, 5.0)
    host.disk_of(PART).full = False


def bit_flip(strike: Strike) -> Script:
    """In a row of the log, while the host is down. It must not start with it."""
    committee, rng = _of(strike), strike.rng
    for pause in _pauses(strike, 2):
        yield pause
        host = rng.choice(committee.hosts)
        if host.running and committee.expendable(host):
            committee.world.journal.count("bit flip", host.name, "in its log")
            host.crash()
            committee.flip(host, rng)
            yield rng.uniform(0.1, 2.0)
            committee.start(host)
            yield rng.uniform(0.1, 2.0)
            committee.start(host)


def wipe(strike: Strike) -> Script:
    """A host comes back under its old name with an empty disk."""
    committee, rng = _of(strike), strike.rng
    for pause in _pauses(strike, 2):
        yield pause
        host = rng.choice(committee.hosts)
        if host.running and committee.expendable(host):
            committee.world.journal.count("wipe", host.name, "its disk is empty")
            committee.destroy(host)
            yield rng.uniform(0.05, 2.0)
            committee.start(host)


# ---- the committee


def membership(strike: Strike) -> Script:
    """Members come and go, voters become learners and voters again."""
    committee, rng = _of(strike), strike.rng
    roles = committee.operator.roles
    for pause in _pauses(strike, 5):
        yield pause
        name = rng.choice(sorted(roles))
        role = rng.choice([one for one in ("voter", "voter", "learner", "none") if one != roles[name]])
        voters = [one for one, known in roles.items() if known == "voter"]
        if role != "voter" and len(voters) <= max(1, committee.shape.voters - 1):
            continue
        if role == "voter" and len(voters) >= 7:
            continue
        committee.world.journal.note("op", "wants %s as %s", name, role)
        committee.operator.wish(name, role)


def transfer(strike: Strike) -> Script:
    committee, rng = _of(strike), strike.rng
    for pause in _pauses(strike, 4):
        yield pause
        leader = committee.leader()
        if leader is None:
            continue
        target = rng.choice(committee.hosts)
        committee.world.journal.count("leadership transfer", leader.name, "to %s", target.name)
        leader.outside(TransferLeadership(target.peer), 5.0, lambda _value, _error: None)


def snapshot(strike: Strike) -> Script:
    committee, rng = _of(strike), strike.rng
    for pause in _pauses(strike, 4):
        yield pause
        host = rng.choice(committee.hosts)
        if member_of(host) is None:
            continue
        committee.world.journal.count("snapshot", host.name, "is asked for")
        try:
            yield from committee.asked(host, TakeSnapshot(), 5.0)
        except EdgenetError:
            continue


ALL: Sequence[FaultKind] = (
    FaultKind("crash", 0.5, crash),
    FaultKind("crash of all", 0.1, crash_all),
    FaultKind("restarts", 0.1, restarts),
    FaultKind("freeze", 0.25, freeze),
    FaultKind("partition", 0.4, partition),
    FaultKind("deposed leaders", 0.1, depose),
    FaultKind("slow link", 0.3, slow_link),
    FaultKind("lost connection", 0.3, lost_connection),
    FaultKind("bad network", 0.4, bad_network),
    FaultKind("fsync error", 0.25, fsync_error),
    FaultKind("full disk", 0.2, full_disk),
    FaultKind("bit flip", 0.2, bit_flip),
    FaultKind("wipe", 0.2, wipe),
    FaultKind("membership change", 0.35, membership),
    FaultKind("leadership transfer", 0.3, transfer),
    FaultKind("snapshot", 0.3, snapshot),
)
