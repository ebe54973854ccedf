"""The hand-written messages against those of protobuf."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]  # grpcio-health-checking ships no types
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import InvalidMessageError
from inferencepool.runtime.health import ServingStatus
from inferencepool.runtime.health._wire import decode_request, encode_list, encode_status

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(NAMES)
def test_requests_are_read_as_protobuf_writes_them(name: str) -> None:
    """Any name, empty included."""
    assert decode_request(health_pb2.HealthCheckRequest(service=name).SerializeToString()) == name


@given(st.binary(max_size=40))
def test_bytes_are_read_as_protobuf_reads_them_or_refused(data: bytes) -> None:
    """What is read is what protobuf reads; groups, which nobody sends, are refused."""
    try:
        name = decode_request(data)
    except InvalidMessageError:
        return
    try:
        expected = health_pb2.HealthCheckRequest.FromString(data).service
    except Exception:  # noqa: BLE001 - protobuf is stricter with field numbers; we do not look at other fields
        return
    assert name == expected


@pytest.mark.parametrize("status", list(ServingStatus))
def test_statuses_are_read_by_protobuf(status: ServingStatus) -> None:
    """Names and numbers are those of the protocol."""
    response = health_pb2.HealthCheckResponse.FromString(encode_status(status))
    assert response.status == status
    assert health_pb2.HealthCheckResponse.ServingStatus.Name(response.status) == status.name


@given(st.dictionaries(NAMES, st.sampled_from(ServingStatus), max_size=5))
def test_lists_are_read_by_protobuf(statuses: dict[str, ServingStatus]) -> None:
    """Names may be longer than one byte tells."""
    response = health_pb2.HealthListResponse.FromString(encode_list(statuses))
    assert {name: each.status for name, each in response.statuses.items()} == statuses


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x0a\x01a\x0a\x01b", "b"),
        (b"\x10\x96\x01\x0a\x01a\x1a\x02xy", "a"),
        (b"\x11" + bytes(8) + b"\x15" + bytes(4) + b"\x0a\x01a", "a"),
        (b"\x08\x05", ""),
    ],
)
def test_unknown_fields_are_passed_over_and_the_last_value_counts(data: bytes, name: str) -> None:
    """As protobuf does."""
    assert decode_request(data) == name == health_pb2.HealthCheckRequest.FromString(data).service


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a\x05abc", "field 1 ends after the message"),
        (b"\x0a", "the number at byte 1 does not end"),
        (b"\x80" * 11, "the number at byte 0 does not end"),
        (b"\x0a\x01\xff", "service: b'\\xff' is not UTF-8"),
        (b"\x0b", "wire type 3 at byte 1 is not allowed"),
        (b"\x11\x00", "field 2 ends after the message"),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    """And the position."""
    with pytest.raises(InvalidMessageError) as caught:
        decode_request(data)
    assert str(caught.value) == f"health check request: {reason}"
