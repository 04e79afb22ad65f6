"""Values as etcd prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgenet_node.raft.algorithm.confchange import ChangeKind, ConfChangeSingle, as_v2, decode_change
from edgenet_node.raft.algorithm.progress import Progress, ProgressState
from edgenet_node.raft.algorithm.quorum import INFINITE, Voters
from edgenet_node.raft.algorithm.rawnode import LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, HardState, ProgressStatus
from edgenet_node.raft.algorithm.ready import Ready, Role, SoftState, StorageAppend, StorageApply
from edgenet_node.wire.raft import ConfState, Entry, EntryKind, Message, MessageKind, Snapshot

ROLES = {
    Role.FOLLOWER: "StateFollower",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
    Role.PRE_CANDIDATE: "StatePreCandidate",
}
KINDS = {kind: "Msg" + "".join(part.capitalize() for part in kind.name.split("_")) for kind in MessageKind}
_ENTRY_KINDS = {
    EntryKind.NORMAL: "EntryNormal",
    EntryKind.CONF_CHANGE: "EntryConfChange",
    EntryKind.CONF_CHANGE_V2: "EntryConfChangeV2",
}
_CHANGES = {
    ChangeKind.ADD_NODE: "v",
    ChangeKind.ADD_LEARNER_NODE: "l",
    ChangeKind.REMOVE_NODE: "r",
    ChangeKind.UPDATE_NODE: "u",
}
_STATES = {"probe": "StateProbe", "replicate": "StateReplicate", "snapshot": "StateSnapshot"}
_PROGRESS = {ProgressState.PROBE: "probe", ProgressState.REPLICATE: "replicate", ProgressState.SNAPSHOT: "snapshot"}
_TARGETS = {0: "None", LOCAL_APPEND_THREAD: "AppendThread", LOCAL_APPLY_THREAD: "ApplyThread"}


def changes_of(text: str) -> tuple[ConfChangeSingle, ...]:
    """`v1 l2 r3 u4`. `ValueError` with etcd's words for anything else."""
    letters = {letter: kind for kind, letter in _CHANGES.items()}
    found = []
    for token in text.split():
        if len(token) < 2:
            raise ValueError(f"unknown token {token}")
        if token[0] not in letters:
            raise ValueError(f"unknown input: {token}")
        found.append(ConfChangeSingle(letters[token[0]], int(token[1:])))
    return tuple(found)


def quoted(data: bytes) -> str:
    """Go's %q."""
    escapes = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x09: "\\t", 0x0D: "\\r"}
    return '"' + "".join(escapes.get(c, chr(c) if 0x20 <= c < 0x7F else f"\\x{c:02x}") for c in data) + '"'


def entry(one: Entry) -> str:
    if one.kind is EntryKind.NORMAL:
        data = quoted(one.data)
    else:
        data = " ".join(f"{_CHANGES[change.kind]}{change.member}" for change in as_v2(decode_change(one)).changes)
    return f"{one.term}/{one.index} {_ENTRY_KINDS[one.kind]}" + (f" {data}" if data else "")


def entries(several: Iterable[Entry]) -> str:
    return "".join(f"{entry(one)}\n" for one in several)


def hard_state(state: HardState) -> str:
    vote = f" Vote:{state.vote}" if state.vote else ""
    return f"Term:{state.term}{vote} Commit:{state.commit}"


def soft_state(state: SoftState) -> str:
    return f"Lead:{state.lead} State:{ROLES[state.role]}"


def _ids(ids: Iterable[int]) -> str:
    return f"[{' '.join(map(str, ids))}]"


def conf_state(state: ConfState) -> str:
    return (
        f"Voters:{_ids(state.voters)} VotersOutgoing:{_ids(state.voters_outgoing)} Learners:{_ids(state.learners)} "
        f"LearnersNext:{_ids(state.learners_next)} AutoLeave:{str(state.auto_leave).lower()}"
    )


def snapshot(one: Snapshot) -> str:
    return f"Index:{one.index} Term:{one.term} ConfState:{conf_state(one.conf_state)}"


def _target(member: int) -> str:
    return _TARGETS.get(member, f"{member:x}")


def message(one: Message, indent: str = "", *, responses: bool = True) -> str:
    out = (
        f"{indent}{_target(one.sender)}->{_target(one.to)} {KINDS[one.kind]} "
        f"Term:{one.term} Log:{one.log_term}/{one.index}"
    )
    if one.reject:
        out += f" Rejected (Hint: {one.reject_hint})"
    if one.commit:
        out += f" Commit:{one.commit}"
    if one.vote:
        out += f" Vote:{one.vote}"
    if len(one.entries) == 1:
        out += f" Entries:[{entry(one.entries[0])}]"
    elif one.entries:
        out += " Entries:[" + "".join(f"\n{indent}  {entry(each)}" for each in one.entries) + f"\n{indent}]"
    if one.snapshot is not None and one.snapshot.index:
        out += f"\n{indent}  Snapshot: {snapshot(one.snapshot)}"
    if responses and isinstance(one, StorageAppend | StorageApply) and one.responses:
        inner = "".join(f"\n{message(each, indent + '  ')}" for each in one.responses)
        out += f" Responses:[{inner}\n{indent}]"
    return out


def ready(one: Ready) -> str:
    out = ""
    if one.soft_state is not None:
        out += soft_state(one.soft_state) + "\n"
    if one.hard_state is not None:
        out += f"HardState {hard_state(one.hard_state)}\n"
    if one.read_states:
        reads = " ".join(f"{{{read.index} {_ids(read.context)}}}" for read in one.read_states)
        out += f"ReadStates [{reads}]\n"
    if one.entries:
        out += "Entries:\n" + entries(one.entries)
    if one.snapshot is not None:
        out += f"Snapshot {snapshot(one.snapshot)}\n"
    if one.committed_entries:
        out += "CommittedEntries:\n" + entries(one.committed_entries)
    if one.messages:
        out += "Messages:\n" + "".join(f"{message(each)}\n" for each in one.messages)
    return f"Ready MustSync={str(one.must_sync).lower()}:\n{out}" if out else "<empty Ready>"


def progress(several: Mapping[int, ProgressStatus]) -> str:
    return "".join(f"{member}: {_progress(one)}\n" for member, one in sorted(several.items()))


def _progress(one: ProgressStatus) -> str:
    out = f"{_STATES[one.state]} match={one.match} next={one.next}"
    out += " learner" if one.learner else ""
    out += " paused" if one.paused else ""
    out += f" pendingSnap={one.pending_snapshot}" if one.pending_snapshot else ""
    out += "" if one.recent_active else " inactive"
    if one.inflight:
        out += f" inflight={one.inflight}" + ("[full]" if one.inflight_full else "")
    return out


def bare_progress(several: Mapping[int, Progress]) -> str:
    """Of configurations without a member around them."""
    return "".join(
        f"{member}: {_STATES[_PROGRESS[one.state]]} match={one.match} next={one.next}"
        + (" learner" if one.learner else "")
        + ("" if one.recent_active else " inactive")
        + "\n"
        for member, one in sorted(several.items())
    )


def index(value: int) -> str:
    return "∞" if value == INFINITE else str(value)


def chart(voters: Iterable[int], acked: Mapping[int, int]) -> str:
    """A bar for each voter, as long as there are voters with smaller indexes."""
    ids = sorted(voters)
    if not ids:
        return "<empty majority quorum>"
    space = " " * len(ids)
    out = f"{space}    idx\n"
    for one in ids:
        bar = sum(acked.get(other, 0) < acked.get(one, 0) for other in ids)
        mark = f"{'x' * bar}>{' ' * (len(ids) - bar)}" if one in acked else f"?{space}"
        out += f"{mark} {acked.get(one, 0):5d}    (id={one:x})\n"
    return out


def joint_chart(voters: Voters, acked: Mapping[int, int]) -> str:
    return chart(voters.ids(), acked)
