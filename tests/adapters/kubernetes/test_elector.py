from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from inferencepool.adapters.kubernetes import Create, ElectionOptions, Failure, Get, Replace, Stream, Wait
from inferencepool.errors import ConfigurationError
from inferencepool.testing import ManualClock
from tests.adapters.kubernetes.leases import NAME, LeaseServer, ask, elect, hand_over, make_elector

LOST = Failure("connection reset")


@pytest.fixture(name="clock")
def _clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture(name="server")
def _server() -> LeaseServer:
    return LeaseServer()


def test_first_replica_creates_the_lease(clock: ManualClock, server: LeaseServer) -> None:
    """Without a lease a replica looks, creates it and leads."""
    elector = make_elector("a", clock)
    steps = [ask(elector, server), ask(elector, server)]

    assert [Get(NAME.path, {}), Create] == [steps[0], type(steps[1])]
    assert elector.leading
    assert server.document
    spec = server.document["spec"]
    assert ("a", 15, 0) == (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"])
    assert spec["acquireTime"] == spec["renewTime"]


def test_leader_renews(clock: ManualClock, server: LeaseServer) -> None:
    """A leader waits and writes, without reading, every two seconds, and leads on."""
    elector = make_elector("a", clock)
    elect(elector, server)
    for _ in range(20):
        assert Wait(2.0) == ask(elector, server)
        clock.advance(2.0)
        assert isinstance(ask(elector, server), Replace)
        assert elector.leading


def test_leader_stops_in_time(clock: ManualClock, server: LeaseServer) -> None:
    """A leader whose renewals fail leads for ten seconds from when it sent the last one that did not."""
    elector = make_elector("a", clock)
    elect(elector, server)
    sent = clock()
    for _ in range(4):
        clock.advance(2.0)
        assert isinstance(elector.next_step(), Replace | Get)
        elector.fail(LOST)
        assert elector.leading
    clock.advance(1.9)
    almost = elector.leading
    clock.advance(0.1)

    assert (True, False) == (almost, elector.leading)
    assert (sent + 10.0, LOST) == (elector.leading_until, elector.problem)


def test_leadership_counts_from_when_it_was_asked_for(clock: ManualClock, server: LeaseServer) -> None:
    """An answer that comes late is worth as much less."""
    elector = make_elector("a", clock)
    ask(elector, server)
    step = elector.next_step()
    assert step is not None
    clock.advance(4.0)
    hand_over(elector, server.answer(step))

    assert 1010.0 == elector.leading_until
    clock.advance(6.0)
    assert not elector.leading


def test_leader_that_failed_for_a_while_goes_on(clock: ManualClock, server: LeaseServer) -> None:
    """A leader that gets through again in time never stopped leading, and the lease did not change hands."""
    elector = make_elector("a", clock)
    elect(elector, server)
    clock.advance(2.0)
    elector.next_step()
    elector.fail(LOST)
    clock.advance(2.0)

    assert isinstance(ask(elector, server), Get)
    assert isinstance(ask(elector, server), Replace)
    assert elector.leading_until == clock() + 10.0
    assert server.document
    assert 0 == server.document["spec"]["leaseTransitions"]
    assert elector.problem is None


def test_others_follow_the_lease(clock: ManualClock, server: LeaseServer) -> None:
    """Whoever finds the lease held follows it from the version that was read, and hears of renewals."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    ask(other, server)
    step = ask(other, server)

    assert isinstance(step, Stream)
    assert (NAME.collection, "1") == (step.path, step.params["watch"])
    assert ("metadata.name=epp-default-llama.llm-d.ai", "96") == (
        step.params["fieldSelector"],
        step.params["resourceVersion"],
    )
    assert other.listening
    assert ("a", False) == (other.holder, other.leading)


def test_lease_of_a_dead_leader(clock: ManualClock, server: LeaseServer) -> None:
    """A lease is taken fifteen seconds after it was seen to change, not after what is written in it."""
    leader, other = make_elector("a", clock, wrong_by=-86400.0), make_elector("b", clock)
    elect(leader, server)
    clock.advance(7.0)
    ask(other, server)
    for _ in range(14):
        clock.advance(1.0)
        if isinstance(ask(other, server), Stream):
            other.fail(Failure("nothing was heard"))
        assert not other.leading
    clock.advance(1.0)
    for _ in range(3):
        ask(other, server)

    assert other.leading
    assert "b" == server.holder
    assert server.document
    assert 1 == server.document["spec"]["leaseTransitions"]


def test_news_of_a_stream_count_as_seen(clock: ManualClock, server: LeaseServer) -> None:
    """A renewal that a stream tells of starts the time anew, wherever the line is cut."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    ask(other, server)
    ask(other, server)
    for _ in range(10):
        clock.advance(2.0)
        ask(leader, server)
        line = server.line()
        for byte in line[:20]:
            other.receive_data(bytes([byte]))
        other.receive_data(line[20:])
        assert other.listening

    clock.advance(10.7)
    assert 4.3 == pytest.approx(other.patience)
    clock.advance(4.3)
    assert 0 == pytest.approx(other.patience)


def test_event_without_a_change_is_no_renewal(clock: ManualClock, server: LeaseServer) -> None:
    """A new version that says the same of its holder is no renewal."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    ask(other, server)
    ask(other, server)
    clock.advance(14.0)
    assert server.document
    server.write(server.document | {"metadata": server.document["metadata"] | {"labels": {"by": "hand"}}})
    other.receive_data(server.line())
    clock.advance(1.0)

    assert 0 == other.patience


def test_release(clock: ManualClock, server: LeaseServer) -> None:
    """A leader that is told to stop stops at once and gives the lease up with its next step, without waiting."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    ask(other, server)
    ask(other, server)
    leader.release()
    assert not leader.leading
    assert -inf == leader.leading_until

    assert isinstance(ask(leader, server), Replace)
    assert leader.next_step() is None
    assert "" == server.holder
    other.receive_data(server.line())
    assert not other.listening
    ask(other, server)
    assert other.leading
    assert server.document
    assert 1 == server.document["spec"]["leaseTransitions"]


def test_release_of_what_is_not_held(clock: ManualClock, server: LeaseServer) -> None:
    """Whoever does not hold the lease has nothing to give up."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    ask(other, server)
    ask(other, server)
    other.release()

    assert not other.listening
    assert other.next_step() is None
    assert "a" == server.holder


@pytest.mark.parametrize("applied", [True, False])
def test_release_after_a_write_of_unknown_end(clock: ManualClock, server: LeaseServer, applied: bool) -> None:
    """If nobody knows whether the lease was taken, it is looked at before it is left alone."""
    elector = make_elector("a", clock)
    ask(elector, server)
    step = elector.next_step()
    assert isinstance(step, Create)
    if applied:
        server.answer(step)
    elector.fail(LOST)
    elector.release()

    assert isinstance(ask(elector, server), Get)
    if applied:
        assert isinstance(ask(elector, server), Replace)
    assert elector.next_step() is None
    assert "" == server.holder


def test_release_over_obstacles(clock: ManualClock, server: LeaseServer) -> None:
    """A release is tried again after failures and conflicts, until the lease could be taken anyway."""
    elector = make_elector("a", clock)
    elect(elector, server)
    elector.release()
    assert isinstance(elector.next_step(), Replace)
    elector.fail(LOST)
    assert isinstance(elector.next_step(), Wait)
    clock.advance(2.0)
    assert isinstance(ask(elector, server), Get)
    assert isinstance(elector.next_step(), Replace)
    elector.fail(Failure("conflict", 409))
    assert isinstance(ask(elector, server), Get)
    clock.advance(8.0)

    assert elector.next_step() is None


def test_release_twice(clock: ManualClock, server: LeaseServer) -> None:
    """Being told again changes nothing."""
    elector = make_elector("a", clock)
    elect(elector, server)
    elector.release()
    clock.advance(9.0)
    elector.release()
    clock.advance(1.0)

    assert elector.next_step() is None


def test_lost_race(clock: ManualClock, server: LeaseServer) -> None:
    """Of two that create or take the lease one gets it, and the other looks at once who it was."""
    first, second = make_elector("a", clock), make_elector("b", clock)
    ask(first, server)
    ask(second, server)
    ask(first, server)
    ask(second, server)
    assert (True, False) == (first.leading, second.leading)

    assert isinstance(ask(second, server), Get)
    assert isinstance(ask(second, server), Stream)


def test_conflicts_without_end(clock: ManualClock, server: LeaseServer) -> None:
    """After a second conflict in a row a replica waits: a server that refuses everything is not flooded."""
    elector = make_elector("a", clock)
    asked = 0
    for _ in range(200):
        step = elector.next_step()
        match step:
            case Wait(seconds):
                clock.advance(seconds)
            case Get():
                asked += 1
                hand_over(elector, server.answer(step))
            case _:
                asked += 1
                elector.fail(Failure("conflict", 409))

    assert asked <= 2 + 2 * (clock() - 1000.0) / 2.0


@pytest.mark.parametrize("status", [None, 401, 403, 404, 409, 429, 500, 504])
def test_failures_without_end(clock: ManualClock, status: int | None) -> None:
    """Whatever a server answers, it is asked no more than twice in two seconds."""
    elector = make_elector("a", clock)
    asked = 0
    while clock() < 1060.0:
        step = elector.next_step()
        if isinstance(step, Wait):
            clock.advance(step.seconds)
        else:
            asked += 1
            elector.fail(Failure("refused", status))

    assert asked <= 2 + 2 * 60 / 2
    assert not elector.leading


def test_server_asks_for_patience(clock: ManualClock) -> None:
    """A server that wants to be left alone is, but for no longer than leadership allows."""
    elector = make_elector("a", clock)
    for asked, expected in ((4.9, 4.9), (3600.0, 5.0)):
        elector.next_step()
        elector.fail(Failure("later", 429, asked))
        step = elector.next_step()
        assert isinstance(step, Wait)
        assert expected == pytest.approx(step.seconds)
        clock.advance(step.seconds)


@pytest.mark.parametrize("status", [403, 404, 405])
def test_polling_where_following_is_refused(clock: ManualClock, server: LeaseServer, status: int) -> None:
    """Without the right to watch, the lease is read every two seconds or a little later."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    ask(other, server)
    assert isinstance(other.next_step(), Stream)
    other.fail(Failure("refused", status))

    waits = []
    for _ in range(6):
        step = ask(other, server)
        assert isinstance(step, Wait | Get)
        if isinstance(step, Wait):
            waits.append(step.seconds)
            clock.advance(step.seconds)
    assert 3 == len(waits)
    assert all(2.0 <= seconds <= 4.4 for seconds in waits)
    assert other.problem is None


def test_streams_that_end_at_once(clock: ManualClock, server: LeaseServer) -> None:
    """A server that ends every stream at once is asked no more often than by polling."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    asked = 0
    while clock() < 1014.0:
        step = ask(other, server)
        if isinstance(step, Wait):
            clock.advance(step.seconds)
        asked += not isinstance(step, Wait)
        if isinstance(step, Stream):
            other.end_stream()

    assert asked <= 2 + 2 * 14 / 2


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"type":"MODIFIED","object":{}}\n',
        b'{"type":"ERROR","object":{"code":410,"message":"too old"}}\n',
        b'{"type":"ERROR"}\n',
        b"x" * (2 << 20),
    ],
)
def test_stream_of_nonsense(clock: ManualClock, server: LeaseServer, data: bytes) -> None:
    """A stream that says nonsense, or that its version is too old, is left for a look at the lease."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    ask(other, server)
    ask(other, server)
    other.receive_data(data)
    assert not other.listening

    step = ask(other, server)
    assert isinstance(step, Wait)
    clock.advance(step.seconds)
    assert isinstance(ask(other, server), Get)


def test_events_of_other_types(clock: ManualClock, server: LeaseServer) -> None:
    """Bookmarks and types to come are no news."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    ask(other, server)
    ask(other, server)
    other.receive_data(b'{"type":"BOOKMARK","object":{}}\n{"type":"SURPRISE"}\n')

    assert other.listening


def test_lease_that_somebody_deletes(clock: ManualClock, server: LeaseServer) -> None:
    """Who follows a lease that is deleted waits as long as its holder may lead; the holder makes it again."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    ask(other, server)
    ask(other, server)
    line = server.line("DELETED")
    server.document = None
    other.receive_data(line)
    assert isinstance(ask(other, server), Wait)

    clock.advance(2.0)
    assert isinstance(ask(leader, server), Replace)
    assert isinstance(ask(leader, server), Get)
    assert not leader.leading
    assert isinstance(ask(leader, server), Create)
    assert leader.leading


def test_deleted_lease_of_a_dead_leader(clock: ManualClock, server: LeaseServer) -> None:
    """A deleted lease that nobody makes again is made by who waited for it."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    ask(other, server)
    ask(other, server)
    other.receive_data(server.line("DELETED"))
    server.document = None
    while not other.leading:
        step = ask(other, server)
        if isinstance(step, Wait):
            clock.advance(step.seconds)

    assert clock() == pytest.approx(1015.0)


def test_lease_that_somebody_else_writes_over(clock: ManualClock, server: LeaseServer) -> None:
    """A leader that finds another holder stops at once."""
    elector = make_elector("a", clock)
    elect(elector, server)
    assert server.document
    server.write(server.document | {"spec": server.document["spec"] | {"holderIdentity": "b"}})
    clock.advance(2.0)
    ask(elector, server)
    ask(elector, server)

    assert not elector.leading
    assert isinstance(ask(elector, server), Stream)


@pytest.mark.parametrize("lease", [{}, {"holderIdentity": "x"}, {"holderIdentity": "", "leaseDurationSeconds": 1}])
def test_leases_of_others(clock: ManualClock, server: LeaseServer, lease: dict[str, Any]) -> None:
    """A lease without a holder is taken at once; one without a duration after the usual time."""
    server.write({"metadata": {"name": NAME.name}, "spec": lease})
    elector = make_elector("a", clock)
    while not elector.leading:
        match ask(elector, server):
            case Wait(seconds):
                clock.advance(seconds)
            case Stream():
                clock.advance(elector.patience)
                elector.fail(Failure("nothing was heard"))
            case _:
                pass

    assert (1015.0 if lease.get("holderIdentity") else 1000.0) == pytest.approx(clock())


def test_answer_that_is_no_lease(clock: ManualClock) -> None:
    """An answer of somebody in between counts as a failure."""
    elector = make_elector("a", clock)
    elector.next_step()
    elector.receive(b"<html>")

    assert elector.problem is not None
    assert isinstance(elector.next_step(), Wait)


def test_answer_to_a_write_names_another(clock: ManualClock, server: LeaseServer) -> None:
    """A write that is answered with somebody else's lease makes no leader."""
    elector = make_elector("a", clock)
    ask(elector, server)
    elector.next_step()
    elector.receive(server.write({"metadata": {}, "spec": {"holderIdentity": "b", "leaseDurationSeconds": 15}}))

    assert not elector.leading
    assert isinstance(elector.next_step(), Stream)


def test_end_of_a_stream_that_is_over(clock: ManualClock, server: LeaseServer) -> None:
    """The end of a stream that already brought the news changes nothing."""
    leader, other = make_elector("a", clock), make_elector("b", clock)
    elect(leader, server)
    ask(other, server)
    ask(other, server)
    leader.release()
    ask(leader, server)
    other.receive_data(server.line())
    other.end_stream()

    assert isinstance(ask(other, server), Replace)


def test_requests_leave_time_for_another(clock: ManualClock) -> None:
    """A request may take half of the deadline, so that a leader can try twice."""
    assert 5.0 == make_elector("a", clock).patience


def test_representation(clock: ManualClock, server: LeaseServer) -> None:
    """It says who it is and where it stands."""
    elector = make_elector("a", clock)
    assert "<LeaderElector a behind '', lease default/epp-default-llama.llm-d.ai>" == repr(elector)
    elect(elector, server)

    assert "<LeaderElector a leads, lease default/epp-default-llama.llm-d.ai>" == repr(elector)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lease_duration": 0}, "lease_duration: 0 is not a whole number"),
        ({"lease_duration": 15.5}, "lease_duration: 15.5 is not a whole number"),
        ({"renew_deadline": nan}, "renew_deadline: nan is not a finite number of seconds above 0"),
        ({"retry_period": 0}, "retry_period: 0 is not a finite number of seconds above 0"),
        ({"retry_period": True}, "retry_period: True is not"),
        ({"jitter": -0.1}, "jitter: -0.1 is not a finite number of 0 or more"),
        ({"renew_deadline": 15}, r"renew_deadline: 15 is not less than lease_duration \(15\)"),
        ({"retry_period": 9}, "retry_period: 9 leaves no time for a second try"),
    ],
)
def test_options(options: dict[str, Any], told: str) -> None:
    """Options that are out of range or do not fit together are refused by name."""
    with pytest.raises(ConfigurationError, match=f"leader election: {told}"):
        ElectionOptions(**options)


def test_identity(clock: ManualClock) -> None:
    """A replica must have a name."""
    with pytest.raises(ConfigurationError, match="identity: must not be empty"):
        make_elector("", clock)


def test_release_during_a_renewal(clock: ManualClock, server: LeaseServer) -> None:
    """The lease is given up as soon as the answer is there, and not at the time of the next renewal."""
    leader = make_elector("a", clock)
    elect(leader, server)
    clock.advance(2.0)
    renewal = leader.next_step()
    assert isinstance(renewal, Replace)
    leader.release()
    hand_over(leader, server.answer(renewal))

    step = leader.next_step()
    assert isinstance(step, Replace)
    assert "" == step.document["spec"]["holderIdentity"]


def test_answers_that_are_nested_too_deeply(clock: ManualClock) -> None:
    """They are failures like others that make no sense."""
    elector = make_elector("a", clock)
    elector.next_step()
    elector.receive(b"[" * 200_000)

    assert elector.problem is not None
