"""What the proxy reports of responses becomes what the registry knows of endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool import SchedulingProfile
from inferencepool.adapters.extproc import (
    BodyMode,
    RequestHeadersAnswer,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Session,
)
from inferencepool.adapters.extproc._outcomes import judge
from inferencepool.model import Candidates, EjectionReason, InferenceRequest, OutcomeKind
from tests.adapters.extproc.sessions import ADDRESSES, FULL, NONE, STREAMED, Bench, ask, head, make_bench
from tests.strategies.extproc import METADATA

FILTER = "envoy.filters.http.ext_proc"
REFUSED = "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}"


def _told(details: str | None = None, attempts: float | None = 1.0) -> dict[str, dict[str, Any]]:
    values = {"response.code_details": details, "upstream.request_attempt_count": attempts}
    return {FILTER: {name: value for name, value in values.items() if value is not None}}


def _response(status: int | str, headers: Mapping[str, str] | None = None, **told: Any) -> ResponseHeaders:
    attributes = _told(**told) if told else {}
    return ResponseHeaders({":status": str(status), **(headers or {})}, attributes=attributes)


def _kind(message: ResponseHeaders) -> OutcomeKind | None:
    status = message.headers[":status"]
    outcome = judge(message, int(status) if status.isdigit() else 0)
    return None if outcome is None else outcome.kind


class TestJudging:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (200, OutcomeKind.SUCCESS),
            (101, OutcomeKind.SUCCESS),
            (304, OutcomeKind.SUCCESS),
            (400, OutcomeKind.CLIENT_ERROR),
            (404, OutcomeKind.MODEL_NOT_FOUND),
            (429, OutcomeKind.BUSY),
            (500, OutcomeKind.SERVER_ERROR),
            (502, OutcomeKind.GATEWAY_FAILURE),
            (503, OutcomeKind.UNAVAILABLE),
            (504, OutcomeKind.GATEWAY_FAILURE),
            (600, None),
            ("x", None),
        ],
    )
    @pytest.mark.parametrize("told", [{}, {"details": "via_upstream"}, {"attempts": 1.0}])
    def test_status_of_the_endpoint(self, status: int | str, kind: OutcomeKind | None, told: dict[str, Any]) -> None:
        """What the endpoint answered is judged by its status, also where the proxy does not say whose it is."""
        assert kind == _kind(_response(status, **told))

    @pytest.mark.parametrize(
        ("details", "status", "attempts", "is_failure"),
        [
            (REFUSED, 503, 1, True),
            ("upstream_reset_before_response_started{connection_termination}", 503, 1, True),
            ("upstream_reset_before_response_started{remote_reset}", 503, 1, True),
            ("upstream_reset_before_response_started{protocol_error}", 502, 1, True),
            ("upstream_reset_before_response_started{overflow}", 503, 1, False),
            ("upstream_reset_before_response_started{local_reset}", 503, 1, False),
            ("upstream_response_timeout", 504, 1, True),
            ("response_timeout", 504, 1, True),
            ("upstream_per_try_timeout", 504, 1, True),
            ("stream_idle_timeout", 504, 1, True),
            ("stream_idle_timeout", 408, 1, False),
            ("max_duration_timeout", 504, 1, True),
            ("max_duration_timeout", 408, 1, False),
            ("no_healthy_upstream", 503, 1, False),
            ("no_healthy_upstream", 503, 3, True),
            ("no_healthy_upstream", 503, None, False),
            ("route_not_found", 404, 1, False),
            ("cluster_not_found", 503, 1, False),
            ("ext_authz_denied", 403, 1, False),
            ("request_rate_limited", 429, 1, False),
            ("overload", 503, 1, False),
            ("", 503, 1, False),
        ],
    )
    def test_reply_of_the_proxy(self, details: str, status: int, attempts: int | None, is_failure: bool) -> None:
        """Of the proxy's own replies those say something that it makes for want of the endpoint's."""
        counted = None if attempts is None else float(attempts)
        expected = OutcomeKind.GATEWAY_FAILURE if is_failure else None
        assert expected == _kind(_response(status, details=details, attempts=counted))

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("0", OutcomeKind.SUCCESS),
            ("1", None),
            ("3", OutcomeKind.CLIENT_ERROR),
            ("5", OutcomeKind.MODEL_NOT_FOUND),
            ("8", OutcomeKind.BUSY),
            ("13", OutcomeKind.SERVER_ERROR),
            ("14", OutcomeKind.UNAVAILABLE),
            ("99", None),
            ("-1", None),
            ("9" * 5000, None),
            ("", None),
        ],
    )
    def test_status_of_grpc(self, code: str, kind: OutcomeKind | None) -> None:
        """A gRPC call that ends with its headers says more than its HTTP status."""
        assert kind == _kind(_response(200, {"grpc-status": code}))

    @pytest.mark.parametrize(
        ("text", "date", "seconds"),
        [
            ("7", "", 7.0),
            ("0", "", 0.0),
            ("999999999", "", 86_400.0),
            ("9" * 5000, "", None),
            ("-1", "", None),
            ("1.5", "", None),
            ("\u0663", "", None),
            ("soon", "", None),
            ("", "", None),
            ("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 30.0),
            ("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:29:00 GMT", 0.0),
            ("Wed, 21 Oct 2015 07:28:30 GMT", "", None),
            ("Wed, 21 Oct 99999 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", None),
            ("Wed, 99 Oct 2015 07:28:30 +99999999", "Wed, 21 Oct 2015 07:28:00 GMT", None),
        ],
    )
    def test_retry_after(self, text: str, date: str, seconds: float | None) -> None:
        """Seconds and dates are read as far as they are any, and bounded."""
        outcome = judge(_response(429, {"retry-after": text, "date": date}), 429)

        assert outcome is not None
        assert (OutcomeKind.BUSY, seconds) == (outcome.kind, outcome.retry_after)

    @given(METADATA, st.text(max_size=80), st.text(max_size=80), st.integers(0, 599))
    def test_anything(self, attributes: Any, wait: str, date: str, status: int) -> None:
        """Attributes and headers of any shape are no error."""
        headers = {"retry-after": wait, "date": date}
        judge(ResponseHeaders(headers, attributes={FILTER: attributes, **attributes}), status)
        judge(ResponseHeaders(headers, attributes=attributes), status)
        judge(ResponseHeaders({**headers, "grpc-status": wait}), status)


class _FirstScorer:
    """Prefers endpoints in the order in which they are."""

    def score(self, request: InferenceRequest, candidates: Candidates, /) -> list[float]:  # noqa: ARG002 - a protocol
        return [1 / (1 + int(candidate.endpoint.address[-1])) for candidate in candidates]


def _bench(**options: Any) -> Bench:
    return make_bench(profile=SchedulingProfile(scorers=[_FirstScorer()], max_num_of_endpoints=3), **options)


def _ejected(bench: Bench) -> dict[str, EjectionReason]:
    return {endpoint.address: ejection.reason for endpoint, ejection in bench.registry.health.ejections()}


def _asked(bench: Bench, response_mode: BodyMode | None = NONE) -> Session:
    session, answers = ask(bench, head(FULL, response_mode))
    assert isinstance(answers[0], RequestHeadersAnswer)
    return session


def _fail(bench: Bench, message: ResponseHeaders, times: int = 5) -> None:
    for _ in range(times):
        session = _asked(bench)
        session.receive(message)
        session.close(finished=True)


class TestReporting:
    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (_response(500), EjectionReason.CONSECUTIVE_5XX),
            (_response(503, details=REFUSED), EjectionReason.CONSECUTIVE_GATEWAY_FAILURE),
        ],
    )
    def test_failures_eject(self, message: ResponseHeaders, reason: EjectionReason) -> None:
        """Five failures in a row, and the endpoint is ejected; four are not enough."""
        bench = _bench()
        _fail(bench, message, times=4)
        assert {} == _ejected(bench)
        _fail(bench, message, times=1)

        assert {ADDRESSES[0]: reason} == _ejected(bench)
        assert (0, 0, 0) == bench.counts

    def test_failure_is_told_at_the_headers(self) -> None:
        """A failure counts, and its load ends, before the response does; what follows changes nothing."""
        bench = _bench()
        session = _asked(bench)
        session.receive(_response(429, {"retry-after": "3"}))

        assert {ADDRESSES[0]: EjectionReason.BUSY} == _ejected(bench)
        assert 0 == bench.in_flight
        session.receive(ResponseTrailers())
        session.close(finished=True)
        assert {EjectionReason.BUSY: 1} == dict(bench.registry.health.counts())

    def test_replies_of_the_proxy_eject_nobody(self) -> None:
        """A filter that refuses every request, and clients that leave, say nothing of the endpoint."""
        bench = _bench()
        _fail(bench, _response(429, details="request_rate_limited"), times=50)
        for _ in range(50):
            _asked(bench).close(finished=True)

        assert {} == _ejected(bench)
        assert (0, 0, 0) == bench.counts

    @pytest.mark.parametrize(
        ("mode", "is_success"), [(NONE, True), (None, True), (STREAMED, False), (BodyMode.BUFFERED, False)]
    )
    def test_broken_off(self, mode: BodyMode | None, is_success: bool) -> None:
        """A response that ends unseen counts as good only where its end cannot be seen."""
        bench = _bench()
        _fail(bench, _response(500), times=4)
        session, _ = ask(bench, head(FULL if mode is not None else None, mode))
        session.receive(_response(200))
        session.close(finished=True)
        _fail(bench, _response(500), times=4)

        assert is_success is (not _ejected(bench))

    def test_body_that_broke_off(self) -> None:
        """Part of a body and no end is no success."""
        bench = _bench()
        _fail(bench, _response(500), times=4)
        session = _asked(bench, None)
        session.receive(_response(200))
        session.receive(ResponseBody(b"x"))
        session.close(finished=True)
        _fail(bench, _response(500), times=1)

        assert [ADDRESSES[0]] == list(_ejected(bench))

    def test_held_pick_is_no_success(self) -> None:
        """A pick whose end nobody saw is let go of without a word."""
        bench = _bench(hold=1.0)
        _fail(bench, _response(500), times=4)
        _asked(bench).close(finished=False)
        bench.clock.advance(2)
        bench.processor.expire()
        _fail(bench, _response(500), times=1)

        assert (0, 0, 0) == bench.counts
        assert [ADDRESSES[0]] == list(_ejected(bench))

    def test_status_in_the_trailers(self) -> None:
        """A gRPC call that begins well may end badly: its trailers tell."""
        bench = _bench()
        for _ in range(5):
            session = _asked(bench)
            session.receive(_response(200, {"content-type": "application/grpc"}))
            session.receive(ResponseTrailers({"grpc-status": "13"}))
            session.close(finished=True)

        assert [ADDRESSES[0]] == list(_ejected(bench))

    def test_model_that_one_does_not_have(self) -> None:
        """An endpoint that does not have a model, which another one serves, is avoided for that model."""
        bench = _bench(fallbacks=2)
        session = _asked(bench)
        session.receive(_served(1))
        session.close(finished=True)
        _fail(bench, _response(404), times=3)

        assert {ADDRESSES[0]: EjectionReason.MODEL_NOT_FOUND} == _ejected(bench)


def _served(number: int, status: int = 200, attempts: float | None = 2.0, address: str = "") -> ResponseHeaders:
    served = address or f"{ADDRESSES[number]}:8000"
    metadata = {"envoy.lb": {"x-gateway-destination-endpoint-served": served}}
    return ResponseHeaders({":status": str(status)}, False, metadata, _told("via_upstream", attempts))


def _in_flight(bench: Bench) -> dict[str, int]:
    load = bench.picker.reserved()
    return {
        endpoint.address: number
        for endpoint, number in zip(load.fleet.endpoints, load.in_flight, strict=True)
        if endpoint is not None and number
    }


class TestServed:
    @pytest.mark.parametrize("observed", [False, True])
    def test_outcome_and_load_are_the_served_one_s(self, observed: bool) -> None:
        """Those before the endpoint that served have failed; the load is its from then on."""
        bench = _bench(fallbacks=2, observe_picks=observed)
        for _ in range(5):
            session = _asked(bench)
            session.receive(_served(2, attempts=3.0))
            assert {ADDRESSES[2]: 1} == _in_flight(bench)
            session.close(finished=True)
            assert {} == _in_flight(bench)
            if _ejected(bench):
                break

        assert ADDRESSES[2] not in _ejected(bench)
        assert ADDRESSES[0] in _ejected(bench)

    def test_failure_of_the_served_one(self) -> None:
        """What the endpoint that served says is said of it alone, once for each request."""
        bench = _bench(fallbacks=2)
        session = _asked(bench)
        session.receive(_served(1, status=429))
        session.close(finished=True)

        assert {ADDRESSES[1]: EjectionReason.BUSY} == _ejected(bench)
        assert (0, 0, 0) == bench.counts

    @pytest.mark.parametrize("attempts", [1.0, 2.0])
    def test_left_out_is_not_failed(self, attempts: float) -> None:
        """Where the proxy sent a request fewer times than there are endpoints before, it did not ask all of them."""
        bench = _bench(fallbacks=2)
        for _ in range(20):
            session = _asked(bench)
            session.receive(_served(2, attempts=attempts))
            session.close(finished=True)

        assert {} == _ejected(bench)

    @pytest.mark.parametrize("address", ["10.9.9.9:1", "", "garbage", "," * 1000])
    def test_served_by_a_stranger(self, address: str) -> None:
        """An endpoint that was not listed gets nothing; those that were have failed, if it was asked after them."""
        bench = _bench()
        for _ in range(5):
            session = _asked(bench)
            session.receive(_served(0, attempts=2.0, address=address) if address else _served(0))
            session.close(finished=True)

        assert ([ADDRESSES[0]] if address else []) == list(_ejected(bench))
        assert (0, 0, 0) == bench.counts

    @pytest.mark.parametrize("fallbacks", [0, 2])
    def test_served_by_a_stranger_after_untold_attempts(self, fallbacks: int) -> None:
        """A proxy that goes its own way, and does not tell how often it tried, accuses nobody."""
        bench = _bench(fallbacks=fallbacks)
        for _ in range(20):
            session = _asked(bench)
            session.receive(_served(0, attempts=None, address="10.9.9.9:1"))
            session.close(finished=True)

        assert {} == _ejected(bench)
        assert (0, 0, 0) == bench.counts
