"""What the sessions of a processor share, and its options."""

from __future__ import annotations

from random import Random
from threading import Thread

import pytest

from inferencepool import EndpointPicker, EndpointRegistry
from inferencepool.adapters.extproc import (
    ExternalProcessor,
    ProcessorOptions,
    ProcessorStatistics,
    RequestBody,
    ResponsePhase,
)
from inferencepool.errors import ConfigurationError, NoEndpointsError
from tests.adapters.extproc.sessions import ask, body, head, make_bench, passed_on, routing_of


def test_what_is_left_out_has_a_default() -> None:
    """A processor needs a picker and no more; ids differ between processors."""
    picker = EndpointPicker(EndpointRegistry())
    processor, other = ExternalProcessor(picker), ExternalProcessor(picker)

    assert ProcessorOptions() == processor.options
    assert processor.new_request_id() != other.new_request_id()
    session = processor.session()
    assert ProcessorStatistics(1, 0) == processor.statistics()
    session.close(finished=True)
    assert ProcessorStatistics(0, 0) == processor.statistics()


def test_request_ids_repeat_with_the_source_of_randomness() -> None:
    """So that tests can."""
    picker = EndpointPicker(EndpointRegistry())
    first, second = (ExternalProcessor(picker, rng=Random(3)).new_request_id() for _ in range(2))

    assert first == second


def test_close_takes_back_what_is_held_and_no_more() -> None:
    """Sessions that go on keep their picks; and a closed processor holds what they leave, until it is closed again."""
    bench = make_bench()
    left, _ = ask(bench)
    going_on, _ = ask(bench)
    left.close(finished=False)
    assert (1, 1, 2) == bench.counts
    bench.processor.close()
    assert (1, 0, 1) == bench.counts
    going_on.close(finished=False)
    assert (0, 1, 1) == bench.counts
    bench.processor.close()
    assert (0, 0, 0) == bench.counts


def test_sessions_may_run_in_different_threads() -> None:
    """The counts come out even."""
    bench = make_bench()

    def run(*, finished: bool) -> None:
        for _ in range(50):
            session = bench.processor.session()
            session.receive(head())
            session.receive(RequestBody(body(), end_of_stream=True))
            session.close(finished=finished)

    threads = [Thread(target=run, kwargs={"finished": number % 2 == 0}) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (0, 100, 100) == bench.counts
    bench.processor.close()
    assert (0, 0, 0) == bench.counts


def test_what_reads_json_can_be_chosen() -> None:
    """For requests and, with `usage`, for responses."""
    read = []

    def loads(data: bytes | bytearray | memoryview | str) -> object:
        read.append(bytes(data) if not isinstance(data, str) else data.encode())
        return {"model": "m", "prompt": "p"}

    bench = make_bench()
    processor = ExternalProcessor(bench.picker, loads=loads)
    session = processor.session()
    session.receive(head())
    answers = session.receive(RequestBody(b"not JSON", end_of_stream=True))

    assert [b"not JSON"] == read
    assert b"not JSON" == passed_on(answers)


def test_endpoints_that_come_and_go_are_seen() -> None:
    """A session picks from what is there when the request has arrived."""
    bench = make_bench(["10.0.0.1"])
    session = bench.session()
    session.receive(head())
    bench.registry.resync([])
    session.receive(RequestBody(body(), end_of_stream=True))
    session.close(finished=False)

    (exchange,) = bench.kept.exchanges
    assert isinstance(exchange.error, NoEndpointsError)


def test_picks_count_as_load_of_the_next() -> None:
    """Three requests to three idle endpoints go to each of them."""
    bench = make_bench()
    assert 3 == len({routing_of(ask(bench)[1]).destination for _ in range(3)})


@pytest.mark.parametrize("phase", ResponsePhase)
def test_phases_by_value(phase: ResponsePhase) -> None:
    """As enum or as text."""
    assert ProcessorOptions(response_phase=phase) == ProcessorOptions(response_phase=phase.value)


@pytest.mark.parametrize("name", ["request_timeout", "hold"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True, "5"])
def test_durations_are_checked(name: str, value: object) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=f"ext_proc: {name}: .* is not a finite number of seconds above 0"):
        ProcessorOptions(**{name: value})  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("name", ["max_body", "chunk_size", "partial_body"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5", None])
def test_sizes_are_checked(name: str, value: object) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=f"ext_proc: {name}: .* is not a whole number of bytes, 1 or more"):
        ProcessorOptions(**{name: value})  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("value", ["", "KEEP", "soon", None, 1])
def test_phases_are_checked(value: object) -> None:
    """The message lists what is allowed."""
    with pytest.raises(ConfigurationError, match=r"ext_proc: response_phase: .* is none of keep, auto, end"):
        ProcessorOptions(response_phase=value)
