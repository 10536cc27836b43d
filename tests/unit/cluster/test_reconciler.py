"""Which machines the reconciler ends, and which it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cluster.provider import Instance, Kind
from cluster.reconciler import Asked, End, Look, Members, Memory, Rules, reconcile

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RULES = Rules()
ASKED = Asked(cluster="ours", generation="s1", node_types=frozenset({"local"}))
HEAD = Instance(
    id="i-head",
    cluster="ours",
    kind=Kind.HEAD,
    node_type="head",
    machine_type="m5.large",
    market="on-demand",
    zone="z",
    launched_at=NOW,
    address="10.0.0.1",
    tags={"simyard-generation": "s1"},
)
WORKER = replace(HEAD, id="i-1", kind=Kind.WORKER, node_type="local", address="10.0.0.2")
NOBODY = Members(head="h1", instances=frozenset({"i-head"}), addresses=frozenset({"10.0.0.1"}))
EVERYBODY = replace(NOBODY, instances=frozenset({"i-head", "i-1"}))


class Watch:
    """Looks every 15 s, and remembers."""

    def __init__(self, *listed: Instance, members: Members | None = NOBODY) -> None:
        self.listed: tuple[Instance, ...] | None = listed
        self.members = members
        self.clock = 0.0
        self.memory = Memory()

    def look(self) -> tuple[End, ...]:
        look = Look(now=NOW + timedelta(seconds=self.clock), clock=self.clock, listed=self.listed, members=self.members)
        self.memory, ends = reconcile(self.memory, look, ASKED, RULES)
        self.clock += 15.0
        return ends

    def until(self, seconds: float) -> list[tuple[float, End]]:
        """Look until then, and return what was to be ended when."""
        found = []
        while self.clock <= seconds:
            at = self.clock
            found += [(at, end) for end in self.look()]
        return found


def first(found: list[tuple[float, End]]) -> tuple[float, str, str]:
    at, end = found[0]
    return at, end.instance.id, end.reason


def test_a_machine_that_never_joins_is_ended_after_nine_minutes() -> None:
    watch = Watch(HEAD, WORKER)
    assert watch.until(539) == []
    assert first(watch.until(700)) == (540, "i-1", "it has not joined Ray within 9 min of its launch")


def test_a_machine_that_ray_has_lost_is_ended_after_five_minutes() -> None:
    old = replace(WORKER, launched_at=NOW - timedelta(hours=1))
    watch = Watch(HEAD, old, members=EVERYBODY)
    assert watch.until(60) == []
    watch.members = NOBODY
    assert first(watch.until(700)) == (375, "i-1", "Ray has not known it for 5 min")


def test_a_machine_that_ray_knows_by_its_id_or_its_address_is_never_ended() -> None:
    assert Watch(HEAD, WORKER, members=EVERYBODY).until(5000) == []
    by_address = replace(NOBODY, addresses=frozenset({"10.0.0.1", "10.0.0.2"}))
    assert Watch(HEAD, WORKER, members=by_address).until(5000) == []
    nameless = replace(NOBODY, addresses=frozenset({""}))
    assert Watch(HEAD, replace(WORKER, address=""), members=nameless).until(5000)


def test_only_this_cluster_s_workers_are_ended() -> None:
    others = (
        HEAD,
        replace(WORKER, id="i-2", cluster="theirs"),
        replace(WORKER, id="i-3", kind=Kind.OTHER),
        replace(WORKER, id="i-4", is_ending=True),
    )
    assert Watch(*others).until(5000) == []


def test_no_answer_and_an_empty_one_say_nothing() -> None:
    for listed in (None, ()):
        watch = Watch(HEAD, WORKER)
        watch.until(520)
        watch.listed = listed
        assert watch.until(5000) == []
        watch.listed = (HEAD, WORKER)
        start = watch.clock
        assert first(watch.until(9000))[0] == start + 300


def test_the_grace_begins_anew_where_ray_was_silent_or_its_head_is_another_one() -> None:
    for members in (None, replace(NOBODY, head="h2")):
        watch = Watch(HEAD, WORKER)
        watch.until(520)
        start = watch.clock
        watch.members = members
        if members is None:
            watch.until(700)
            start, watch.members = watch.clock, NOBODY
        assert first(watch.until(9000))[0] == start + 300


def test_a_dispatcher_that_has_just_started_ends_nothing_before_the_grace() -> None:
    watch = Watch(HEAD, replace(WORKER, launched_at=NOW - timedelta(hours=5)))
    assert first(watch.until(5000))[0] == 300


def test_a_list_that_leaves_a_machine_out_begins_its_grace_anew() -> None:
    watch = Watch(HEAD, WORKER)
    watch.until(520)
    watch.listed = (HEAD,)
    watch.look()
    watch.listed = (HEAD, WORKER)
    start = watch.clock
    assert first(watch.until(9000))[0] == start + 300


def test_a_machine_that_does_not_end_is_asked_again_more_and_more_seldom() -> None:
    found = Watch(HEAD, WORKER).until(1200)
    assert [at for at, _ in found] == [540, 555, 585, 645, 765, 885, 1005, 1125]
    assert [end.tries for _, end in found] == list(range(1, 9))


def test_machines_of_an_earlier_server_are_ended_but_not_those_of_a_rival_that_lives() -> None:
    left = replace(WORKER, tags={"simyard-generation": "s0"})
    assert first(Watch(HEAD, left).until(700))[2] == "an earlier server launched it, and it belongs to nobody now"
    rival = replace(HEAD, id="i-rival", tags={"simyard-generation": "s0"})
    assert Watch(HEAD, rival, left).until(5000) == []
    assert Watch(HEAD, rival, WORKER).until(700)
    assert Watch(HEAD, replace(rival, is_ending=True), left).until(700)


def test_a_machine_of_a_node_type_that_is_gone_is_ended_and_so_said() -> None:
    surplus = replace(WORKER, node_type="gone")
    assert first(Watch(HEAD, surplus).until(700))[2] == "the cluster file has no such node type any more"


def test_a_clock_that_stands_behind_the_cloud_s_delays_the_end_and_does_not_prevent_it() -> None:
    ahead = replace(WORKER, launched_at=NOW + timedelta(hours=2))
    assert first(Watch(HEAD, ahead).until(5000))[0] == 540


def test_what_is_left_of_a_machine_that_stopped_is_ended_in_time_and_that_of_a_head_is_kept() -> None:
    left = replace(WORKER, is_ending=True, is_left_over=True, why_ended="it switched itself off")
    at, _, reason = first(Watch(HEAD, left).until(5000))
    assert (at, reason) == (540, "it switched itself off")
    assert Watch(HEAD, replace(left, is_left_over=False)).until(5000) == []
    assert Watch(HEAD, replace(left, id="i-old", kind=Kind.HEAD)).until(5000) == []
    assert Watch(HEAD, replace(left, cluster="another")).until(5000) == []
