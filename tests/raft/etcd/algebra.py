"""The commands of the scripts about quorums and configurations."""

from __future__ import annotations

from edgenet_node.raft.algorithm.confchange import enter_joint, leave_joint, simple
from edgenet_node.raft.algorithm.errors import ConfChangeRefused
from edgenet_node.raft.algorithm.membership import Members
from edgenet_node.raft.algorithm.quorum import VoteResult, Voters, committed_index, vote_result

from . import describe
from .script import Command, truth

_RESULTS = {VoteResult.PENDING: "VotePending", VoteResult.LOST: "VoteLost", VoteResult.WON: "VoteWon"}


def quorum(command: Command) -> str:
    """`committed cfg=(1,2) cfgj=(3) idx=(_,5,7)`, `vote cfg=(1,2,3) votes=(y,n,_)`: the values are those of the members
    in the order in which `cfg` and `cfgj` first name them; `cfgj=zero` is a joint configuration with an empty half."""
    given = {argument.key: argument.values for argument in command.arguments}
    ids = [int(one) for one in given.get("cfg", ())]
    joint = "cfgj" in given
    others = [] if given.get("cfgj", ("zero",)) == ("zero",) else [int(one) for one in given["cfgj"]]
    members = list(dict.fromkeys(ids + others))
    values = given.get("votes" if command.name == "vote" else "idx", ())
    if len(members) != len(values):
        names = " ".join(f"{one}:{{}}" for one in sorted(members))
        return f"error: mismatched input (explicit or _) for voters map[{names}]: {' '.join(values)}"
    known = {member: value for member, value in zip(members, values, strict=True) if value != "_"}
    voters = Voters(frozenset(ids), frozenset(others))
    if command.name == "vote":
        return _vote(voters, {member: value == "y" for member, value in known.items()}, joint=joint)
    if command.name == "committed":
        return _committed(voters, {member: int(value) for member, value in known.items()}, joint=joint)
    return "unknown command"


def _vote(voters: Voters, votes: dict[int, bool], *, joint: bool) -> str:
    result = voters.vote_result(votes) if joint else vote_result(voters.incoming, votes)
    mirrored = Voters(voters.outgoing, voters.incoming).vote_result(votes)
    return f"{_RESULTS[mirrored]} <-- via symmetry\n" * (mirrored is not result) + f"{_RESULTS[result]}\n"


def _committed(voters: Voters, acked: dict[int, int], *, joint: bool) -> str:
    """Other ways to the same number are printed where they differ, as etcd does."""
    if joint:
        index, out = voters.committed_index(acked), describe.joint_chart(voters, acked)
        others = {"symmetry": Voters(voters.outgoing, voters.incoming).committed_index(acked)}
    else:
        one = voters.incoming
        index, out = committed_index(one, acked), describe.chart(one, acked)
        others = {
            "zero-joint quorum": Voters(one).committed_index(acked),
            "self-joint quorum": Voters(one, one).committed_index(acked),
        }
        for member in one:
            if 0 < acked.get(member, 0) < index:  # what was below already may be lower still
                others[f"overlaying {member}"] = committed_index(one, {**acked, member: acked[member] - 1})
    out += "".join(f"{describe.index(other)} <-- via {way}\n" for way, other in others.items() if other != index)
    return f"{out}{describe.index(index)}\n"


class Configurations:
    """Changes of one configuration; the log grows by an entry with each command."""

    def __init__(self) -> None:
        self._members = Members(0, 10, 0)
        self._last_index = 0

    def run(self, command: Command) -> str:
        try:
            return self._run(command)
        except (ConfChangeRefused, ValueError) as error:
            return f"{error}\n"
        finally:
            self._last_index += 1

    def _run(self, command: Command) -> str:
        changes = describe.changes_of(command.input)
        configuration = self._members.configuration
        if command.name == "simple":
            changed = simple(configuration, changes)
        elif command.name == "enter-joint":
            changed = enter_joint(
                configuration, changes, auto_leave=bool(command.arguments) and truth(command.value("autoleave"))
            )
        elif command.name == "leave-joint":
            if changes:
                return "this command takes no input\n"
            changed = leave_joint(configuration)
        else:
            return "unknown command"
        self._members.adopt(changed, self._last_index)
        return f"{self._members.configuration}\n{describe.bare_progress(self._members.progress)}"
