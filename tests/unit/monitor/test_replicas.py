"""Which replica owns which run, and as of when verdicts may be given."""

from __future__ import annotations

from collections import Counter

from runyard_server.domain.beats import MonitorReplica
from runyard_server.domain.run import RunKey
from runyard_server.monitor.replicas import Roster, RosterRules

RULES = RosterRules(lease_s=15.0, fresh_s=5.0, stall_limit_s=5.0, settle_s=12.0)
LOST_S = RULES.lease_s
"""What a start takes out of the time of signs of life."""
KEYS = [RunKey((1 << 63) + number * 7919) for number in range(9000)]
A, B, C = (MonitorReplica(name, f"127.0.0.1:{port}") for port, name in enumerate("abc", 1))


def roster(own: MonitorReplica, *everyone: MonitorReplica, now_s: float = 0.0) -> Roster:
    """Returns the view of a replica that started long enough before `now_s` to trust what it hears."""
    made = Roster(own.replica_id, own.address, RULES)
    made.renew(everyone, asked_s=now_s - RULES.lease_s, now_s=now_s - RULES.lease_s)
    made.renew(everyone, asked_s=now_s, now_s=now_s)
    for peer in made.peers:
        made.note_all_clear(peer.replica_id, now_s=now_s)
    assert made.take_step_back()
    return made


def owners(view: Roster) -> list[str]:
    names = [peer.replica_id for peer in view.peers]
    return [
        view.replica_id if index < 0 else names[index]
        for index in view.owner_indexes(KEYS, now_s=0.0).tolist()
    ]


def test_a_start_waits_for_replicas_that_nobody_lists() -> None:
    """Metadata's clock may have jumped and taken replicas off the list that renewed just before: they live for a lease more."""
    view = Roster("a", A.address, RULES)
    for at_s in (0.0, 3.0, 6.0, 9.0, 12.0):
        view.renew((A,), asked_s=at_s, now_s=at_s)
    assert view.verdict_s(14.9) == 5.0
    assert view.look(15.0)
    assert (view.verdict_s(15.0), view.table_s(15.0)) == (0.0, 0.0)


def test_all_replicas_agree_and_share_alike() -> None:
    """Each run has one owner, the same in every replica's eyes, whatever the order of the list; shares differ little."""
    found = owners(roster(A, A, B, C))
    assert found == owners(roster(B, C, B, A)) == owners(roster(C, B, A, C))
    assert all(2700 < count < 3300 for count in Counter(found).values())


def test_only_the_runs_of_the_dead_move() -> None:
    """When a replica goes, the runs of the others stay where they are."""
    before, after = owners(roster(A, A, B, C)), owners(roster(A, A, C))
    moved = {name for name, now in zip(before, after, strict=True) if name != now}
    assert moved == {"b"}


def test_the_owner_is_the_same_in_every_version() -> None:
    """The hash is part of the contract between replicas of different versions."""
    assert "".join(owners(roster(A, A, B, C))[:24]) == "abcccbcaccbccccabcaaacba"


def test_a_predecessor_at_the_same_address_owns_nothing() -> None:
    """A restarted replica does not wait for the lease of the process that it replaced."""
    dead = MonitorReplica("dead", A.address)
    assert roster(A, A, dead).peers == ()


def test_verdicts_wait_for_a_replica_that_is_not_heard() -> None:
    """Silence is not trusted beyond the last all clear; when it comes, all that time counts."""
    view = roster(A, A, B)
    view.renew((A, B), asked_s=20.0, now_s=20.0)
    assert (view.verdict_s(20.0), view.table_s(20.0)) == (5.0 - LOST_S, 20.0 - LOST_S)
    view.note_all_clear("b", now_s=20.0)
    assert view.verdict_s(21.0) == 21.0 - LOST_S


def test_what_a_dead_replica_took_counts_as_no_silence() -> None:
    """When a replica goes, the time since its last all clear is taken out of everybody's silence."""
    view = roster(A, A, B)
    view.note_all_clear("b", now_s=10.0)
    view.renew((A, B), asked_s=14.0, now_s=14.0)
    view.renew((A, B), asked_s=24.0, now_s=24.0)
    change = view.renew((A,), asked_s=26.0, now_s=26.0)
    assert (change.is_changed, change.is_excusing) == (True, False)
    # It may have renewed just before it was taken off the list, and take beats in for a lease more.
    for at_s in (29.0, 32.0, 35.0, 38.0):
        view.renew((A,), asked_s=at_s, now_s=at_s)
    assert (view.heard_until_s(40.0), view.take_step_back()) == (15.0, False)
    assert view.look(41.0)
    assert view.table_s(41.0) == view.verdict_s(41.0) == 10.0 - LOST_S
    assert view.take_step_back()


def test_a_replica_that_is_off_the_list_by_mistake_comes_back() -> None:
    """When metadata's clock jumps, living replicas are off the list until they renew: nothing is lost by that."""
    view = roster(A, A, B)
    view.renew((A,), asked_s=3.0, now_s=3.0)
    view.note_all_clear("b", now_s=4.0)
    view.renew((A, B), asked_s=6.0, now_s=6.0)
    view.note_all_clear("b", now_s=7.0)
    assert view.table_s(8.0) == view.verdict_s(8.0) == 8.0 - LOST_S


def test_a_restarted_replica_is_not_waited_for() -> None:
    """When another process is at a replica's address, that replica is dead, whatever its lease says."""
    view = roster(A, A, B)
    view.note_all_clear("b", now_s=2.0)
    heir = MonitorReplica("b2", B.address)
    view.renew((A, B, heir), asked_s=3.0, now_s=3.0)
    assert (view.peers, view.table_s(3.0)) == ((heir,), 2.0 - LOST_S)
    view.renew((A, B, heir), asked_s=6.0, now_s=6.0)
    assert view.peers == (heir,)


def test_a_late_renewal_of_the_dead_unseats_the_living_for_a_moment_only() -> None:
    """A predecessor that is listed again takes the place of its heir until that says a word."""
    heir = MonitorReplica("b2", B.address)
    view = roster(A, A, heir)
    view.renew((A, B, heir), asked_s=3.0, now_s=3.0)
    view.note_all_clear("b2", now_s=4.0)
    view.renew((A, B, heir), asked_s=6.0, now_s=6.0)
    view.renew((A, B, heir), asked_s=9.0, now_s=9.0)
    assert view.peers == (heir,)


def test_verdicts_wait_for_the_list() -> None:
    """A replica that cannot renew gives no verdict as of later than its last list; nor does one that has never read it."""
    assert Roster("a", A.address, RULES).verdict_s(100.0) == float("-inf")
    assert roster(A, A).heard_until_s(100.0) == 5.0


def test_a_replica_whose_lease_is_over_owns_nothing() -> None:
    """The others may have taken its runs: until it is back on the list, beats are theirs; then its runs start anew."""
    view = roster(A, A, B)
    assert set(view.owner_indexes(KEYS, now_s=16.0).tolist()) == {0}
    assert view.renew((A, B), asked_s=17.0, now_s=17.0).is_excusing


def test_a_lone_replica_settles_after_a_lapse() -> None:
    """Another may have lived and gone meanwhile: agents that had turned to it get the time to be heard again."""
    view = roster(A, A)
    assert view.owned(KEYS[:2], now_s=100.0) == [True, True]
    change = view.renew((A,), asked_s=100.0, now_s=100.0)
    assert not change.is_excusing
    view.renew((A,), asked_s=111.0, now_s=111.0)
    assert (view.heard_until_s(111.0), view.heard_until_s(112.0)) == (5.0, 112.0)
