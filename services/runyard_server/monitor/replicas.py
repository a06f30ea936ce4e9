"""Which replica watches which run, and up to when this one has heard everything; pure, it reads no clock and calls nobody.

A run belongs to the living replica with the highest score for it (rendezvous hashing): when one goes, only its runs move. The list
of the living comes from metadata, each under a lease. A beat may reach any replica; one that is not its run's owner passes it on.

Silence is trusted only where nothing can be on its way. Each replica tells each other one about once a second that it has
passed on all it had ("all clear"). Verdicts are given as of the moment up to which *every* listed replica has said so, and the
list itself was known. Whoever cannot be heard holds verdicts up, until it is heard, or it is off the list and for a lease more
(it may have renewed just before, and metadata's clock may jump): then the time in which it was not heard counts as no silence.
A replica that has just started waits for such unlisted ones too.

```
  all clear of B ──┬── nothing of B ──────────┬── B off the list, a lease ago ──►
  ─ the clock of ──┴── stands still ──────────┴── goes on, behind by that time
    verdicts
```
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from runyard_server.domain.beats import MonitorReplica
from runyard_server.domain.run import RunKey

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_UNKNOWN: Final = ""
_SHIFTS: Final = (np.uint64(30), np.uint64(27), np.uint64(31))


@dataclass(frozen=True, slots=True)
class RosterRules:
    """How long what is known of other replicas holds."""

    lease_s: float
    """How long a replica counts as living after it renewed its lease."""
    fresh_s: float
    """For how long silence can be trusted after the last renewal, and after each other replica's last all clear."""
    stall_limit_s: float
    """Longest time between two looks at the clock; after a longer one this process itself was away."""
    settle_s: float
    """After a lapse, the time in which agents that had turned elsewhere are heard again."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a renewal brought."""

    is_changed: bool
    """Whether runs may have another owner now."""
    is_excusing: bool
    """Whether this replica had been off the list: all its runs get a full timeout."""


class Roster:
    """The living replicas as this one knows them. `now_s` is this process's monotonic clock."""

    def __init__(self, replica_id: str, address: str, rules: RosterRules) -> None:
        self.replica_id = replica_id
        self._address = address
        self._rules = rules
        self.peers: tuple[MonitorReplica, ...] = ()
        """The other living replicas, by id."""
        self._renewed_s: float | None = None
        self._all_clear_s: dict[str, float] = {}
        # Replicas that went off the list, and until when they may go on nevertheless.
        self._ghosts: dict[str, float] = {}
        # Replicas whose address another process has by now.
        self._predecessors: set[str] = set()
        self._lost_s = 0.0
        self._lost_until_s = float("-inf")
        self._has_stepped_back = False
        self._frozen_until_s = float("-inf")
        self._frozen_s = float("-inf")
        self._looked_s: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether the list has been read since the start."""
        return self._renewed_s is not None

    def renew(
        self, replicas: Collection[MonitorReplica], *, asked_s: float, now_s: float
    ) -> Change:
        """Takes in the list as metadata knew it some time after `asked_s`."""
        peers = self._without_predecessors(replicas)
        is_first = self._renewed_s is None
        is_lapsed = self.is_lapsed(now_s)
        was_alone = not self.peers
        if is_lapsed and was_alone and not peers:
            self._frozen_s = self.heard_until_s(now_s)
            self._frozen_until_s = now_s + self._rules.settle_s
        if is_first:
            # One that metadata's clock took off the list by a jump may have renewed just before, unknown to this one.
            self._ghosts[_UNKNOWN] = now_s + self._rules.lease_s
            self._all_clear_s[_UNKNOWN] = now_s
        before = {replica.replica_id for replica in self.peers}
        after = {replica.replica_id for replica in peers}
        for gone in before - after:
            # It may have renewed its lease just before it was taken off (metadata's clock jumped), and go on for that long.
            is_dead = gone in self._predecessors
            self._ghosts[gone] = now_s if is_dead else now_s + self._rules.lease_s
        for joined in after - before:
            self._ghosts.pop(joined, None)
            self._all_clear_s.setdefault(joined, now_s)
        self._bury(now_s)
        is_changed = is_first or peers != self.peers
        self.peers = peers
        self._renewed_s = asked_s
        return Change(is_changed, is_lapsed and not (was_alone and not peers))

    def is_lapsed(self, now_s: float) -> bool:
        """Returns whether this replica's lease may be over: others may have taken its runs."""
        return self._renewed_s is not None and now_s > self._renewed_s + self._rules.lease_s

    def is_fresh(self, now_s: float) -> bool:
        """Returns whether the list is recent enough to say what belongs to whom."""
        return self._renewed_s is not None and now_s <= self._renewed_s + self._rules.fresh_s

    def note_all_clear(self, replica_id: str, *, now_s: float) -> None:
        """Notes that the replica has passed on everything that it had for this one."""
        # Who speaks is no predecessor: it was taken for one because its own predecessor's last renewal came late.
        self._predecessors.discard(replica_id)
        if replica_id in self._all_clear_s:
            self._all_clear_s[replica_id] = now_s

    def look(self, now_s: float) -> bool:
        """Notes that this process is awake; returns False if it had been away for too long."""
        self._bury(now_s)
        last_s, self._looked_s = self._looked_s, now_s
        return last_s is None or now_s - last_s <= self._rules.stall_limit_s

    def take_step_back(self) -> bool:
        """Returns whether `table_s` has gone back since this was last asked."""
        had, self._has_stepped_back = self._has_stepped_back, False
        return had

    def table_s(self, now_s: float) -> float:
        """Returns the time by which signs of life are noted: `now_s` without what was lost with replicas that went."""
        return now_s - self._lost_s

    def verdict_s(self, now_s: float) -> float:
        """Returns the time as of which verdicts may be given."""
        return self.heard_until_s(now_s) - self._lost_s

    def heard_until_s(self, now_s: float) -> float:
        """Returns up to when everything was heard that any replica took in."""
        if self._renewed_s is None:
            return float("-inf")
        until_s = min((self._renewed_s, *self._all_clear_s.values())) + self._rules.fresh_s
        until_s = min(now_s, until_s)
        return min(until_s, self._frozen_s) if now_s < self._frozen_until_s else until_s

    def _without_predecessors(
        self, replicas: Collection[MonitorReplica]
    ) -> tuple[MonitorReplica, ...]:
        """Returns the others of the list, by id. Of two at one address the one that was there before is dead: it was restarted."""
        by_address: dict[str, list[MonitorReplica]] = {}
        for replica in replicas:
            if replica.address != self._address and replica.replica_id not in self._predecessors:
                by_address.setdefault(replica.address, []).append(replica)
        known = {replica.replica_id for replica in self.peers}
        peers: list[MonitorReplica] = []
        for there in by_address.values():
            new = [replica for replica in there if replica.replica_id not in known]
            if new and len(new) < len(there):
                old = [replica for replica in there if replica.replica_id in known]
                self._predecessors.update(replica.replica_id for replica in old)
                peers.extend(new)
            else:
                peers.extend(there)
        listed = {replica.replica_id for there in by_address.values() for replica in there}
        listed.update(replica.replica_id for replica in replicas)
        self._predecessors &= listed
        return tuple(sorted(peers, key=lambda replica: replica.replica_id))

    def _bury(self, now_s: float) -> None:
        """Takes the replicas out that cannot go on any more; what they had taken in and not passed on is not known."""
        dead = [replica_id for replica_id, until_s in self._ghosts.items() if now_s >= until_s]
        heard_s = []
        for replica_id in dead:
            del self._ghosts[replica_id]
            heard_s.append(self._all_clear_s.pop(replica_id))
        if heard_s:
            since_s = max(min(heard_s), self._lost_until_s)
            self._lost_s += max(0.0, now_s - since_s)
            self._lost_until_s = now_s
            self._has_stepped_back = True

    def owner_indexes(self, run_keys: Sequence[RunKey], *, now_s: float) -> npt.NDArray[np.int64]:
        """Returns for each run the place of its owner in `peers`, -1 for this replica itself.

        One whose lease is over owns nothing while there are others.
        """
        if not self.peers:
            return np.full(len(run_keys), -1, dtype=np.int64)
        keys = np.fromiter(run_keys, dtype=np.uint64, count=len(run_keys))
        names = [replica.replica_id for replica in self.peers]
        if self.is_lapsed(now_s):
            return _highest(keys, names)
        # Ties between scores of 64 bits go to the later one in this order, the same in every replica.
        everyone = sorted((*names, self.replica_id))
        place = everyone.index(self.replica_id)
        owners = _highest(keys, everyone)
        return np.where(owners == place, -1, owners - (owners > place))

    def owned(self, run_keys: Sequence[RunKey], *, now_s: float) -> list[bool]:
        """Returns for each run whether this replica is its owner."""
        owned: list[bool] = (self.owner_indexes(run_keys, now_s=now_s) == -1).tolist()
        return owned


def _highest(keys: npt.NDArray[np.uint64], names: Sequence[str]) -> npt.NDArray[np.int64]:
    best = np.zeros(len(keys), dtype=np.uint64)
    owners = np.zeros(len(keys), dtype=np.int64)
    for place, name in enumerate(names):
        score = _mix(keys ^ _name_hash(name))
        is_higher = score >= best
        best = np.where(is_higher, score, best)
        owners[is_higher] = place
    return owners


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Returns the values well mixed: the finisher of SplitMix64, the same in every process and version."""
    mixed = values + _GOLDEN
    mixed = (mixed ^ (mixed >> _SHIFTS[0])) * _MIX_1
    mixed = (mixed ^ (mixed >> _SHIFTS[1])) * _MIX_2
    return mixed ^ (mixed >> _SHIFTS[2])


def _name_hash(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big"))
