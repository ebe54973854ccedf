"""Where a session sends requests, and what it changes about them."""

from __future__ import annotations

import gzip
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.extproc import BodyMode, ImmediateResponse, RequestBody, RequestBodyAnswer
from inferencepool.adapters.extproc._struct import number_value
from inferencepool.model import (
    EndpointMetrics,
    InferenceModelRewrite,
    InferenceObjective,
    ObjectMeta,
    PoolReference,
    RewriteRule,
    TargetModel,
)
from inferencepool.scheduling import SchedulingProfile
from tests.adapters.extproc.sessions import (
    ADDRESSES,
    BUFFERED,
    FULL,
    NONE,
    PARTIAL,
    STREAMED,
    ask,
    body,
    feed,
    head,
    make_bench,
    passed_on,
    routing_of,
    subset,
)

POOL = PoolReference(name="pool")


def rewrite(*targets: str, models: tuple[str, ...] = ()) -> InferenceModelRewrite:
    """Make a rewrite of *models*, or all, to *targets*."""
    rule = RewriteRule(models, map(TargetModel, targets))
    return InferenceModelRewrite(metadata=ObjectMeta(name="rewrite"), pool_ref=POOL, rules=(rule,))


def objective(name: str, priority: int | None) -> InferenceObjective:
    """Make an objective."""
    return InferenceObjective(metadata=ObjectMeta(name=name), pool_ref=POOL, priority=priority)


def test_the_idle_endpoint_gets_the_request() -> None:
    """The pick is the picker's: the endpoint with the shorter queue."""
    bench = make_bench(ADDRESSES[:2])
    first, second = bench.registry.endpoints()
    bench.registry.observe_metrics(first.id, EndpointMetrics(waiting_queue_size=9))
    bench.registry.observe_metrics(second.id, EndpointMetrics(waiting_queue_size=0))
    bench.registry.publish()

    _, answers = ask(bench)
    assert second.destination == routing_of(answers).destination


def test_ipv6_is_written_in_brackets() -> None:
    """With the port behind it an address would be ambiguous else."""
    _, answers = ask(make_bench(["fd00::1"]))
    assert "[fd00::1]:8000" == routing_of(answers).destination


@pytest.mark.parametrize(("wanted", "count"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_as_many_fallbacks_are_listed_as_are_wanted(wanted: int, count: int) -> None:
    """Not every proxy can read a list, and one that can tries so many."""
    bench = make_bench(profile=SchedulingProfile(max_num_of_endpoints=3), fallbacks=wanted)
    _, answers = ask(bench)

    named = routing_of(answers).destination.split(",")
    assert count == len(named)
    assert set(named) <= {f"{address}:8000" for address in ADDRESSES}
    assert len(set(named)) == count


def test_without_fallbacks_a_list_has_one_entry() -> None:
    """A pool of one endpoint has none to fall back to."""
    _, answers = ask(make_bench(["10.0.0.1"], profile=SchedulingProfile(max_num_of_endpoints=3), fallbacks=2))
    assert "10.0.0.1:8000" == routing_of(answers).destination


class Pinned:
    """Scores by address."""

    def score_endpoints(self, candidates: Any) -> list[float]:
        """Give the last number of the address, as tenths."""
        return [int(candidate.endpoint.address[-1]) / 10 for candidate in candidates]


@pytest.mark.parametrize("wanted", [False, True])
def test_scores_of_all_candidates_are_told_where_wanted(*, wanted: bool) -> None:
    """Not of the endpoint that was picked alone, and not of those that the hint leaves out."""
    bench = make_bench(profile=SchedulingProfile(scorers=[Pinned()]), emit_scores=wanted)
    _, answers = ask(bench, head(metadata=subset("10.0.0.1,10.0.0.3")))
    routing = routing_of(answers)

    assert "10.0.0.3:8000" == routing.destination
    expected = {"10.0.0.1:8000": pytest.approx(0.1), "10.0.0.3:8000": pytest.approx(0.3)}
    assert routing.scores == (expected if wanted else None)


@pytest.mark.parametrize(
    ("hint", "allowed"),
    [
        ("10.0.0.2", {"10.0.0.2:8000", "10.0.0.2:8001"}),
        ("10.0.0.2:8001", {"10.0.0.2:8001"}),
        (" 10.0.0.1:8000 , 10.0.0.2:8000", {"10.0.0.1:8000", "10.0.0.2:8000"}),
        (["10.0.0.1:8000", "10.0.0.9"], {"10.0.0.1:8000"}),
        (["10.0.0.1:8000,10.0.0.2:8000"], {"10.0.0.1:8000", "10.0.0.2:8000"}),
        ([1.0, None, True, "10.0.0.1:8001", {}, {"a": [1.0]}, ["10.0.0.2:8000"]], {"10.0.0.1:8001"}),
        ("[fd00::3]:8000", {"[fd00::3]:8000"}),
        (["fd00:0:0::3"], {"[fd00::3]:8000", "[fd00::3]:8001"}),
    ],
)
@pytest.mark.parametrize("mode", [FULL, NONE])
def test_subset_hints_limit_the_pick(hint: object, allowed: set[str], mode: BodyMode) -> None:
    """A text or a list; what is no text in a list is passed over. They count for requests without a body too."""
    bench = make_bench(["10.0.0.1", "10.0.0.2", "fd00::3"], ports=[8000, 8001])
    picked = set()
    for _ in range(12):
        _, answers = ask(bench, head(mode, end=mode is NONE, metadata=subset(hint)))
        picked.add(routing_of(answers).destination)

    assert allowed == picked


@pytest.mark.parametrize(
    "hint",
    ["", " , ", [], "10.9.9.9", "10.0.0.1:1", "10.0.0.1:", [1.0, True], [["10.0.0.1"]], 7.0, True, {}, {"a": ""}],
)
def test_subset_hints_that_name_no_endpoint(hint: object) -> None:
    """A hint of any kind is a limit, so nothing is left to pick from."""
    bench = make_bench()
    session, (refusal,) = ask(bench, head(metadata=subset(hint)))

    assert isinstance(refusal, ImmediateResponse)
    assert (503, True, 0) == (refusal.status, session.done, bench.in_flight)
    assert ("x-llm-d-request-dropped-reason", "rejected-no-endpoints") in refusal.set_headers


@pytest.mark.parametrize("metadata", [{}, {"envoy.lb.subset_hint": {}}, {"other": {"key": "10.9.9.9"}}, subset(None)])
def test_without_a_hint_all_endpoints_may_be_picked(metadata: dict[str, dict[str, Any]]) -> None:
    """No metadata, no namespace, no key, or null."""
    bench = make_bench()
    picked = {routing_of(ask(bench, head(metadata=metadata))[1]).destination for _ in range(9)}

    assert {f"{address}:8000" for address in ADDRESSES} == picked


def test_subset_hints_may_be_disregarded() -> None:
    """An option, as the reference has it."""
    _, answers = ask(make_bench(ignore_subset=True), head(metadata=subset("10.9.9.9")))
    assert routing_of(answers).destination


NAMES = [("x-llm-d-", "x-gateway-"), ("x-gateway-", "x-other-")]


@pytest.mark.parametrize(("prefix", "ignored"), NAMES)
def test_objective_and_fairness_by_header(prefix: str, ignored: str) -> None:
    """Under the current name, else under the older one."""
    bench = make_bench(observe_picks=True, objectives=[objective("chat", 5), objective("batch", -1)])
    headers = {
        f"{prefix}inference-objective": "chat",
        f"{prefix}inference-fairness-id": "team",
        f"{ignored}inference-objective": "batch",
        f"{ignored}inference-fairness-id": "others",
    }
    ask(bench, head(headers=headers))
    ask(bench, head(headers=headers, end=True))

    assert [(5, "team")] * 2 == [(request.priority, request.fairness_id) for request in bench.asked.requests]


@pytest.mark.parametrize("name", ["unknown", "", "unset"])
def test_unknown_objectives_are_no_error(name: str) -> None:
    """They count as priority 0; a name that is there but empty hides the older one."""
    bench = make_bench(observe_picks=True, objectives=[objective("chat", 5), objective("unset", None)])
    ask(bench, head(headers={"x-llm-d-inference-objective": name, "x-gateway-inference-objective": "chat"}))
    ask(bench)

    assert [(0, "default-flow")] * 2 == [(request.priority, request.fairness_id) for request in bench.asked.requests]


def test_objectives_and_rewrites_can_be_replaced() -> None:
    """The next request sees what is set then."""
    bench = make_bench(observe_picks=True, objectives=[objective("chat", 5)], rewrites=[rewrite("a")])
    asking = head(headers={"x-llm-d-inference-objective": "chat"})
    ask(bench, asking)
    bench.processor.set_objectives([objective("chat", 6)])
    bench.processor.set_rewrites([])
    ask(bench, asking)

    assert [(5, "a"), (6, "llama")] == [(request.priority, request.model) for request in bench.asked.requests]


def test_what_the_body_tells_reaches_the_picker() -> None:
    """Model, prompt, limits; and the headers."""
    bench = make_bench(observe_picks=True)
    ask(bench, None, body(stream=True, max_tokens=5, cache_salt="salt"))

    (request,) = bench.asked.requests
    assert ("llama", b"Hello", True, 5, "salt") == (
        request.model,
        request.prompt,
        request.stream,
        request.max_output_tokens,
        request.cache_salt,
    )
    assert ("id-1", "/v1/completions") == (request.id, request.headers[":path"])


def test_request_id_is_kept() -> None:
    """The client's, or the proxy's, is nobody else's to change."""
    _, answers = ask(make_bench())
    assert () == routing_of(answers).set_headers


@pytest.mark.parametrize("mode", [FULL, BUFFERED, NONE])
def test_request_id_is_made_where_there_is_none(mode: BodyMode) -> None:
    """A random one, which the request carries on and the record tells."""
    bench = make_bench(observe_picks=True)
    made = []
    for _ in range(2):
        session, answers = ask(bench, head(mode, end=mode is NONE, headers={"x-request-id": ""}))
        session.close(finished=True)
        ((name, value),) = routing_of(answers).set_headers
        assert "x-request-id" == name
        made.append(value)

    assert 2 == len(set(made))
    assert [4, 4] == [uuid.UUID(value).version for value in made]
    assert made == [exchange.request_id for exchange in bench.kept.exchanges]
    assert made == [request.id for request in bench.asked.requests]


FORGED = [
    "x-gateway-destination-endpoint-subset",
    "x-gateway-destination-endpoint-served",
    "x-gateway-destination-endpoint-scores",
    "x-gateway-destination-endpoint-fallback",
    "x-prefiller-host-port",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
    "x-llm-d-request-dropped-reason",
]


@given(st.sets(st.sampled_from(FORGED)), st.sampled_from([FULL, BUFFERED, STREAMED, NONE]))
def test_forged_headers_are_removed(names: set[str], mode: BodyMode) -> None:
    """Those that came, and no others."""
    forged = dict.fromkeys(names, "10.6.6.6:80")
    _, answers = ask(make_bench(), head(mode, end=mode is NONE, headers={**forged, "authorization": "secret"}))

    assert tuple(sorted(names)) == routing_of(answers).remove_headers


def test_a_forged_hint_in_headers_limits_nothing() -> None:
    """Hints come as metadata, which clients cannot write."""
    headers = {"x-gateway-destination-endpoint-subset": "10.0.0.2", "x-gateway-destination-endpoint": "10.6.6.6:80"}
    _, answers = ask(make_bench(["10.0.0.1"]), head(headers=headers))

    assert "10.0.0.1:8000" == routing_of(answers).destination


@pytest.mark.parametrize(("prefix", "ignored"), NAMES)
def test_model_is_rewritten_by_header(prefix: str, ignored: str) -> None:
    """In the body only the model's bytes change; the picker sees the new model, and the record both."""
    bench = make_bench(observe_picks=True)
    data = body("llama", temperature=0.10)
    headers = {f"{prefix}model-name-rewrite": "lora", f"{ignored}model-name-rewrite": "others"}
    session, answers = ask(bench, head(headers=headers), data)
    session.close(finished=True)

    assert data.replace(b'"llama"', b'"lora"') == passed_on(answers)
    assert ["lora"] == [request.model for request in bench.asked.requests]
    assert [("llama", "lora")] == [(each.model, each.target_model) for each in bench.kept.exchanges]


def test_a_rewrite_wins_over_the_header() -> None:
    """What the operator says counts more; an empty header says nothing."""
    bench = make_bench(rewrites=[rewrite("lora", models=("llama",))])
    headers = {"x-llm-d-model-name-rewrite": "header"}

    assert b'"lora"' in passed_on(ask(bench, head(headers=headers))[1])
    assert b'"header"' in passed_on(ask(bench, head(headers=headers), body("other"))[1])
    assert b'"other"' in passed_on(ask(bench, head(headers={"x-llm-d-model-name-rewrite": ""}), body("other"))[1])


def test_a_rewrite_to_the_same_model_changes_nothing() -> None:
    """Neither the body nor, where the header asks for another, the rewrite's say."""
    bench = make_bench(rewrites=[rewrite("llama")])
    data = body("llama")
    answers = ask(bench, head(BUFFERED, headers={"x-llm-d-model-name-rewrite": "lora"}), data)[1]

    assert RequestBodyAnswer(routing_of(answers), None) == answers[-1]


@pytest.mark.parametrize("model", [None, ""])
@pytest.mark.parametrize("by_header", [True, False])
def test_a_rewrite_gives_a_model_to_a_body_without_one(model: str | None, *, by_header: bool) -> None:
    """The model need not be named by the client then."""
    bench = make_bench(rewrites=[] if by_header else [rewrite("lora")])
    headers = {"x-llm-d-model-name-rewrite": "lora"} if by_header else {}
    answers = ask(bench, head(headers=headers), body(model))[1]

    assert {"model": "lora", "prompt": "Hello"} == json.loads(passed_on(answers))


def test_weighted_rewrites_are_drawn() -> None:
    """The processor's source of randomness decides."""
    bench = make_bench(rewrites=[rewrite("a", "b")])
    drawn = {json.loads(passed_on(ask(bench)[1]))["model"] for _ in range(20)}

    assert {"a", "b"} == drawn


@pytest.mark.parametrize("mode", [BUFFERED, PARTIAL])
@pytest.mark.parametrize("told", [True, False])
def test_content_length_follows_a_rewritten_body(mode: BodyMode, *, told: bool) -> None:
    """Where the proxy keeps the header, it has to be that of the new body; it is not added where there was none."""
    data = body("llama")
    headers = {"x-llm-d-model-name-rewrite": "a-much-longer-name"}
    if told:
        headers["content-length"] = str(len(data))
    answers = ask(make_bench(), head(mode, headers=headers), data)[1]

    (answer,) = [answer for answer in answers if isinstance(answer, RequestBodyAnswer)]
    assert answer.replacement is not None
    assert data.replace(b"llama", b"a-much-longer-name") == answer.replacement
    expected = (("content-length", str(len(answer.replacement))),) if told else ()
    assert expected == answer.routing.set_headers


@pytest.mark.parametrize(("mode", "model"), [(BUFFERED, "llama"), (FULL, "lora"), (STREAMED, "lora")])
def test_content_length_is_left_alone_otherwise(mode: BodyMode, model: str) -> None:
    """An unchanged body keeps its length; in the other modes the proxy drops the header."""
    headers = {"x-llm-d-model-name-rewrite": model, "content-length": "5"}
    answers = ask(make_bench(), head(mode, headers=headers))[1]

    assert () == routing_of(answers).set_headers


@given(st.text(), st.text(min_size=1), st.text())
def test_only_the_bytes_of_the_model_change(model: str, target: str, prompt: str) -> None:
    """Whatever stands in the body around it."""
    data = json.dumps({"prompt": prompt or "x", "model": model or "m", "more": {"model": "inner"}}).encode()
    before, after = data.split(json.dumps(model or "m").encode() + b', "more"')
    bench = make_bench(rewrites=[rewrite(target)])

    changed = passed_on(ask(bench, None, data)[1])
    assert before + json.dumps(target).encode() + b', "more"' + after == changed or target == model
    assert target == json.loads(changed)["model"]


@pytest.mark.parametrize("mode", [FULL, BUFFERED])
def test_a_compressed_body_is_rewritten_and_leaves_as_it_was_before(mode: BodyMode) -> None:
    """Without its encoding, and with its own length; one that is not rewritten stays compressed."""
    data = gzip.compress(body())
    compressed = {"content-encoding": "gzip", "content-length": str(len(data))}
    bench = make_bench(rewrites=[rewrite("lora", models=("llama",))], observe_picks=True)
    _, answers = ask(bench, head(mode, headers=compressed), data)
    _, others = ask(bench, head(mode, headers=compressed), gzip.compress(body("other")))
    changed = passed_on(answers) if mode is FULL else answers[-1].replacement  # type: ignore[union-attr]  # it is an answer to a body

    assert body("lora") == changed
    assert ("content-encoding",) == routing_of(answers).remove_headers
    assert (("content-length", str(len(body("lora")))),) * (mode is BUFFERED) == routing_of(answers).set_headers
    assert () == routing_of(others).remove_headers
    assert ["lora", "other"] == [request.model for request in bench.asked.requests]
    assert [b"Hello"] * 2 == [request.prompt for request in bench.asked.requests]


@pytest.mark.parametrize("reason", ["rewrite", "header", "none"])
def test_an_unknown_encoding_is_refused_only_where_rewrites_depend_on_it(reason: str) -> None:
    """Else it is routed without model and prompt."""
    bench = make_bench(rewrites=[rewrite("lora", models=("llama",))] if reason == "rewrite" else [])
    headers = {"content-encoding": "br"} | ({"x-llm-d-model-name-rewrite": "a"} if reason == "header" else {})
    session, answers = ask(bench, head(headers=headers), b"?")

    if reason == "none":
        assert b"?" == passed_on(answers)
    else:
        assert isinstance(answers[0], ImmediateResponse)
        assert (415, True) == (answers[0].status, session.done)
        assert ("accept-encoding", "gzip, deflate") in answers[0].set_headers
        assert b"UnsupportedMediaType - content-encoding: 'br' hides the model" in answers[0].body


def test_what_is_unpacked_counts_as_held() -> None:
    """A small body that swells is read in steps, and is held with all that it is."""
    bench = make_bench()
    data = gzip.compress(b'{"model":"m","prompt":"%b"}' % bytes(b"a" * (32 << 20)))
    session = bench.session()
    feed(session, head(headers={"content-encoding": "gzip"}), RequestBody(data, end_of_stream=True))
    most = 0
    while session.working:
        most = max(most, session.held_bytes)
        session.advance()

    assert len(data) + (31 << 20) <= most <= len(data) + (32 << 20) + 100


@pytest.mark.parametrize(
    ("prefer", "status"),
    [("if-available", 412), ("respond-async, IF-Available; wait=10", 412), ("if-available-soon", 0), ("", 0)],
)
def test_a_request_may_prefer_to_be_refused(prefer: str, status: int) -> None:
    """Where the endpoint has nothing of its prompt cached; where it has, it is routed."""
    bench = make_bench()
    long = body(prompt="Hello " * 100)
    _, answers = ask(bench, head(headers={"prefer": prefer}), long)
    assert status == (answers[0].status if isinstance(answers[0], ImmediateResponse) else 0)
    if status:
        assert isinstance(answers[0], ImmediateResponse)
        assert b"PreconditionFailed - no decode worker has the requested KV cache" in answers[0].body
        assert 0 == bench.in_flight
    ask(bench, data=long)
    _, answers = ask(bench, head(headers={"prefer": prefer}), long)
    assert not isinstance(answers[0], ImmediateResponse)


def test_the_model_of_a_form_is_rewritten() -> None:
    """As that of JSON, so that transcriptions reach the model that a rewrite means."""
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n--x--\r\n'
    bench = make_bench(rewrites=[rewrite("lora", models=("llama",))])
    _, answers = ask(bench, head(path="/v1/audio/transcriptions"), form % b"llama")

    assert form % b"lora" == passed_on(answers)


def test_a_score_of_zero_is_told_without_a_sign() -> None:
    """A negative zero would be written ``-0`` in the gateway's JSON."""
    assert number_value("192.0.2.1:8000", 0.0) == number_value("192.0.2.1:8000", -0.0)
