"""Which statuses follow from which conditions, and what watches are told."""

from __future__ import annotations

from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.extproc import EXT_PROC_SERVICE
from inferencepool.runtime.health import LIVENESS, READINESS, Health, ServingStatus
from tests.patience import PATIENCE

SERVING, NOT_SERVING = ServingStatus.SERVING, ServingStatus.NOT_SERVING
FOLLOWING = ["", READINESS, EXT_PROC_SERVICE]


class Noting:
    """A watch that notes what it is told."""

    def __init__(self, health: Health, service: str) -> None:
        self.told: list[object] = []
        self.stop = health.watch(service, self.told.append, lambda: self.told.append("closed"))


@pytest.mark.parametrize("service", FOLLOWING)
def test_readiness_needs_every_condition_and_no_draining(service: str) -> None:
    """Each condition can take it back; draining takes it for good."""
    health = Health(["synced", "leader"])
    assert health.status(service) == NOT_SERVING
    assert [*health.unmet] == ["synced", "leader"]
    health.set("leader")
    assert health.status(service) == NOT_SERVING
    assert [*health.unmet] == ["synced"]
    health.set("synced")
    assert health.status(service) == SERVING
    assert health.ready
    assert [*health.unmet] == []
    health.set("leader", False)
    assert health.status(service) == NOT_SERVING
    health.set("leader")
    assert health.status(service) == SERVING
    health.drain()
    health.set("leader")
    assert health.status(service) == NOT_SERVING
    assert [*health.unmet] == ["draining"]


def test_liveness_depends_on_nothing() -> None:
    """A picker without a pool, or one that drains, is not to be restarted."""
    health = Health(["synced"], any_name=True)
    assert health.status(LIVENESS) is SERVING
    health.drain()
    assert health.status(LIVENESS) is SERVING
    health.close()
    assert health.status(LIVENESS) is SERVING


def test_without_conditions_it_is_ready_at_once() -> None:
    """Whoever names no condition has none to meet."""
    assert Health([]).status("") is SERVING


def test_other_names_are_unknown_unless_asked_for() -> None:
    """Names are given one by one, or all at once."""
    assert Health().status("inference-extension") is ServingStatus.SERVICE_UNKNOWN
    for health in (Health(services=["inference-extension"]), Health(any_name=True)):
        assert health.status("inference-extension") is NOT_SERVING
        health.set("synced")
        assert health.status("inference-extension") is SERVING
    assert Health(services=["a"]).statuses() == {LIVENESS: SERVING, **dict.fromkeys([*FOLLOWING, "a"], NOT_SERVING)}
    assert Health(any_name=True).statuses() == {LIVENESS: SERVING, **dict.fromkeys(FOLLOWING, NOT_SERVING)}


def test_what_cannot_be_is_refused() -> None:
    """Wrong names are shown."""
    with pytest.raises(ConfigurationError, match="each must have a name of its own"):
        Health(["synced", "synced"])
    with pytest.raises(ConfigurationError, match="each must have a name of its own"):
        Health([""])
    with pytest.raises(ConfigurationError, match="'liveness' does not depend on conditions"):
        Health(services=[LIVENESS])
    with pytest.raises(ConfigurationError, match="no condition 'leader'; there are synced"):
        Health(["synced"]).set("leader")
    with pytest.raises(ConfigurationError, match="no condition 'synced'; there are none"):
        Health([]).set("synced")


def test_repr_tells_what_is_missing() -> None:
    """As far as one line can."""
    health = Health(["synced"])
    assert repr(health) == "<Health synced>"
    health.set("synced")
    assert repr(health) == "<Health ready>"


def test_watches_are_told_the_present_and_each_change_until_they_stop() -> None:
    """A stopped watch is told no more, and stopping twice is once."""
    health = Health()
    kept, stopped = Noting(health, ""), Noting(health, READINESS)
    health.set("synced")
    stopped.stop()
    stopped.stop()
    health.set("synced", False)
    health.close()
    health.close()

    assert kept.told == [NOT_SERVING, SERVING, NOT_SERVING, "closed"]
    assert stopped.told == [NOT_SERVING, SERVING]
    assert Noting(health, "").told == [NOT_SERVING, "closed"]


@pytest.mark.parametrize(("service", "status"), [(LIVENESS, SERVING), ("?", ServingStatus.SERVICE_UNKNOWN)])
def test_watches_of_what_never_changes_end_like_the_others(service: str, status: ServingStatus) -> None:
    """They are told once, and the end."""
    health = Health()
    watch = Noting(health, service)
    health.set("synced")
    health.close()
    assert watch.told == [status, "closed"]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans()), max_size=30), st.booleans())
def test_watches_are_told_no_status_twice_in_a_row_and_the_last_is_true(
    changes: list[tuple[str, bool]], drains: bool
) -> None:
    """Whatever is set in whatever order."""
    health = Health(["a", "b", "c"])
    watches = [Noting(health, name) for name in FOLLOWING]
    held = dict.fromkeys("abc", False)
    expected = [NOT_SERVING]
    for condition, holds in changes:
        health.set(condition, holds)
        held[condition] = holds
        status = SERVING if all(held.values()) else NOT_SERVING
        if status is not expected[-1]:
            expected.append(status)
    if drains:
        health.drain()
        if expected[-1] is SERVING:
            expected.append(NOT_SERVING)

    assert [watch.told for watch in watches] == [expected] * 3
    assert health.status("") is expected[-1]


def test_threads_may_set_conditions_and_watch() -> None:
    """Every watch sees statuses in turns, and the last one is that of the end."""
    health = Health(["0", "1"])
    watches: list[Noting] = []

    def set_and_watch(condition: str) -> None:
        for number in range(300):
            health.set(condition, number % 2 == 0)
            watches.append(Noting(health, ""))

    threads = [Thread(target=set_and_watch, args=[str(number)]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    health.set("0")
    health.set("1")

    assert len(watches) == 600
    for watch in watches:
        assert watch.told[-1] is SERVING
        assert all(one is not other for one, other in zip(watch.told, watch.told[1:], strict=False))
