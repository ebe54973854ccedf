"""
ext_proc as the protobuf library reads and writes it, from descriptors built here.

They lie in a pool and a package of their own. Only what the codec reads or writes is declared, so that the rest is
unknown to both. Three declarations differ from Envoy's on purpose, and look the same on the wire. The key and the value
of a header are bytes, since the codec takes any byte there where protobuf wants UTF-8. Enums are 32-bit integers. Maps
are lists of entries, which they are by definition: the library in use loses an entry of a map that has an unknown
field, as others do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]  # no stubs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs

from inferencepool.adapters.extproc._messages import (
    Answer,
    BodyMode,
    ImmediateResponse,
    Message,
    RequestBody,
    RequestBodyAnswer,
    RequestHeaders,
    RequestHeadersAnswer,
    RequestTrailers,
    RequestTrailersAnswer,
    ResponseBody,
    ResponseBodyAnswer,
    ResponseHeaders,
    ResponseHeadersAnswer,
    ResponseTrailers,
    ResponseTrailersAnswer,
    Routing,
    StreamedRequestBody,
    StreamedResponseBody,
)

__all__ = [
    "SCHEMA",
    "DecodeError",
    "new_request",
    "parse_request",
    "parse_response",
    "to_answer",
    "to_message",
    "write_request",
]

_PACKAGE: Final = "inferencepool_oracle"
OVERWRITE_IF_EXISTS_OR_ADD: Final = 2
_Type = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    "bytes": _Type.TYPE_BYTES,
    "string": _Type.TYPE_STRING,
    "bool": _Type.TYPE_BOOL,
    "int32": _Type.TYPE_INT32,
    "uint32": _Type.TYPE_UINT32,
    "double": _Type.TYPE_DOUBLE,
}

# For each message its fields as `number name type`; * is repeated, | is in the message's oneof, {} is a map by string.
SCHEMA: Final = {
    "ProcessingRequest": (
        "2 request_headers |HttpHeaders",
        "3 response_headers |HttpHeaders",
        "4 request_body |HttpBody",
        "5 response_body |HttpBody",
        "6 request_trailers |HttpTrailers",
        "7 response_trailers |HttpTrailers",
        "8 metadata_context Metadata",
        "9 attributes {}Struct",
        "11 protocol_config ProtocolConfiguration",
    ),
    "HttpHeaders": ("1 headers HeaderMap", "3 end_of_stream bool"),
    "HttpBody": ("1 body bytes", "2 end_of_stream bool"),
    "HttpTrailers": ("1 trailers HeaderMap",),
    "HeaderMap": ("1 headers *HeaderValue",),
    "HeaderValue": ("1 key bytes", "2 value bytes", "3 raw_value bytes"),
    "Metadata": ("1 filter_metadata {}Struct",),
    "Struct": ("1 fields {}Value",),
    "Value": (
        "1 null_value |int32",
        "2 number_value |double",
        "3 string_value |string",
        "4 bool_value |bool",
        "5 struct_value |Struct",
        "6 list_value |ListValue",
    ),
    "ListValue": ("1 values *Value",),
    "ProtocolConfiguration": ("1 request_body_mode int32", "2 response_body_mode int32"),
    "ProcessingResponse": (
        "1 request_headers |HeadersResponse",
        "2 response_headers |HeadersResponse",
        "3 request_body |BodyResponse",
        "4 response_body |BodyResponse",
        "5 request_trailers |TrailersResponse",
        "6 response_trailers |TrailersResponse",
        "7 immediate_response |ImmediateResponse",
        "8 dynamic_metadata Struct",
    ),
    "HeadersResponse": ("1 response CommonResponse",),
    "BodyResponse": ("1 response CommonResponse",),
    "TrailersResponse": ("1 header_mutation HeaderMutation",),
    "CommonResponse": (
        "1 status int32",
        "2 header_mutation HeaderMutation",
        "3 body_mutation BodyMutation",
        "5 clear_route_cache bool",
    ),
    "HeaderMutation": ("1 set_headers *HeaderValueOption", "2 remove_headers *string"),
    "HeaderValueOption": ("1 header HeaderValue", "3 append_action int32"),
    "BodyMutation": ("1 body |bytes", "2 clear_body |bool", "3 streamed_response |StreamedBodyResponse"),
    "StreamedBodyResponse": ("1 body bytes", "2 end_of_stream bool"),
    "ImmediateResponse": (
        "1 status HttpStatus",
        "2 headers HeaderMutation",
        "3 body bytes",
        "4 grpc_status GrpcStatus",
        "5 details string",
    ),
    "HttpStatus": ("1 code int32",),
    "GrpcStatus": ("1 status uint32",),
}


def _add_field(message: descriptor_pb2.DescriptorProto, number: int, name: str, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=_Type.LABEL_OPTIONAL)
    if kind.startswith("*"):
        field.label = _Type.LABEL_REPEATED
    elif kind.startswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="kind")
        field.oneof_index = 0
    elif kind.startswith("{}"):
        entry = message.nested_type.add(name="".join(word.title() for word in name.split("_")) + "Entry")
        _add_field(entry, 1, "key", "string")
        _add_field(entry, 2, "value", kind[2:])
        field.label = _Type.LABEL_REPEATED
        field.type = _Type.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
        return
    kind = kind.lstrip("*|")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Type.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"


def _build() -> tuple[Any, Any]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for message_name, fields in SCHEMA.items():
        message = file.message_type.add(name=message_name)
        for field in fields:
            number, name, kind = field.split()
            _add_field(message, int(number), name, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in ("ProcessingRequest", "ProcessingResponse")
    )
    return request, response


_REQUEST, _RESPONSE = _build()


def new_request() -> Any:
    """Give an empty ``ProcessingRequest``."""
    return _REQUEST()


def parse_request(data: bytes) -> Any:
    """
    Parse a ``ProcessingRequest``.

    Raises:
        DecodeError: The library cannot.
    """
    request = _REQUEST()
    request.ParseFromString(data)
    return request


def parse_response(data: bytes) -> Any:
    """Parse a ``ProcessingResponse``, as `parse_request`."""
    response = _RESPONSE()
    response.ParseFromString(data)
    return response


def to_message(request: Any) -> Message:
    """Give the value that stands for a parsed request; one without a kind is a ValueError."""
    metadata = {each.key: to_python_fields(each.value) for each in request.metadata_context.filter_metadata}
    kind = request.WhichOneof("kind")
    if kind == "request_headers":
        modes: tuple[BodyMode | None, BodyMode | None] = (None, None)
        if request.HasField("protocol_config"):
            config = request.protocol_config
            modes = BodyMode(config.request_body_mode), BodyMode(config.response_body_mode)
        return RequestHeaders(*_headers(request.request_headers), *modes, metadata)
    if kind == "response_headers":
        attributes = {each.key: to_python_fields(each.value) for each in request.attributes}
        return ResponseHeaders(*_headers(request.response_headers), metadata, attributes)
    if kind == "request_body":
        return RequestBody(request.request_body.body, request.request_body.end_of_stream, metadata)
    if kind == "response_body":
        return ResponseBody(request.response_body.body, request.response_body.end_of_stream, metadata)
    if kind == "request_trailers":
        return RequestTrailers()
    if kind == "response_trailers":
        return ResponseTrailers(_by_name(request.response_trailers.trailers))
    message = "no kind of request"
    raise ValueError(message)


def _headers(message: Any) -> tuple[dict[str, str], bool]:
    return _by_name(message.headers), message.end_of_stream


def _by_name(headers: Any) -> dict[str, str]:
    return {
        header.key.lower().decode("latin-1"): (header.raw_value or header.value).decode("latin-1")
        for header in headers.headers
    }


def to_python_fields(struct: Any) -> dict[str, Any]:
    """Give the JSON object of a ``Struct``."""
    return {each.key: to_python(each.value) for each in struct.fields}


def to_python(value: Any) -> Any:
    """Give the JSON value of a ``Value``; one that is not set is null."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return to_python_fields(value.struct_value)
    if kind == "list_value":
        return [to_python(each) for each in value.list_value.values]
    return None if kind in {None, "null_value"} else getattr(value, kind)


def write_request(message: Message) -> Any:
    """Give the request that stands for a value, as Envoy fills it: values of headers are raw."""
    request = new_request()
    name = _REQUEST_FIELDS[type(message)]
    part = getattr(request, name)
    part.SetInParent()
    if isinstance(message, ResponseTrailers):
        _fill_headers(part.trailers, message.headers)
    if isinstance(message, RequestTrailers | ResponseTrailers):
        return request
    part.end_of_stream = message.end_of_stream
    if isinstance(message, RequestBody | ResponseBody):
        part.body = message.body
    else:
        _fill_headers(part.headers, message.headers)
    if isinstance(message, ResponseHeaders):
        for name, values in message.attributes.items():
            _fill_struct(request.attributes.add(key=name).value, values)
    if isinstance(message, RequestHeaders) and message.request_body_mode is not None:
        request.protocol_config.SetInParent()
        request.protocol_config.request_body_mode = message.request_body_mode
        request.protocol_config.response_body_mode = message.response_body_mode
    for namespace, values in message.metadata.items():
        each = request.metadata_context.filter_metadata.add(key=namespace)
        _fill_struct(each.value, values)
    return request


_REQUEST_FIELDS: Final = {
    RequestHeaders: "request_headers",
    ResponseHeaders: "response_headers",
    RequestBody: "request_body",
    ResponseBody: "response_body",
    RequestTrailers: "request_trailers",
    ResponseTrailers: "response_trailers",
}


def _fill_headers(into: Any, headers: Mapping[str, str]) -> None:
    for key, value in headers.items():
        into.headers.add(key=key.encode("latin-1"), raw_value=value.encode("latin-1"))


def _fill_value(into: Any, value: Any) -> None:
    if value is None:
        into.null_value = 0
    elif isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, float):
        into.number_value = value
    elif isinstance(value, str):
        into.string_value = value
    elif isinstance(value, list):
        into.list_value.SetInParent()
        for each in value:
            _fill_value(into.list_value.values.add(), each)
    else:
        _fill_struct(into.struct_value, value)


def _fill_struct(into: Any, values: Mapping[str, Any]) -> None:
    into.SetInParent()
    for key, value in values.items():
        each = into.fields.add(key=key)
        each.value.SetInParent()
        _fill_value(each.value, value)


def to_answer(response: Any) -> Answer:
    """Give the answer that a parsed response stands for; an AssertionError if it is none of ours."""
    kind = response.WhichOneof("kind")
    part = getattr(response, kind)
    if kind == "immediate_response":
        assert not part.HasField("grpc_status")
        return ImmediateResponse(part.status.code, part.body, _set_headers(part.headers), part.details)
    if kind in {"request_trailers", "response_trailers"}:
        assert not part.HasField("header_mutation")
        return RequestTrailersAnswer() if kind == "request_trailers" else ResponseTrailersAnswer()
    if kind == "response_body" and not part.HasField("response"):
        return ResponseBodyAnswer()
    return _to_common_answer(kind, response, part.response)


def _to_common_answer(kind: str, response: Any, common: Any) -> Answer:
    assert common.status == 0
    mutation = common.body_mutation.WhichOneof("kind")
    if mutation == "streamed_response":
        assert not common.HasField("header_mutation")
        chunk = common.body_mutation.streamed_response
        streamed = StreamedRequestBody if kind == "request_body" else StreamedResponseBody
        return streamed(chunk.body, chunk.end_of_stream)
    if kind == "response_headers":
        return ResponseHeadersAnswer(_set_headers(common.header_mutation))
    routing = _to_routing(response, common)
    if kind == "request_headers":
        assert mutation is None
        return RequestHeadersAnswer(routing)
    assert kind == "request_body"
    return RequestBodyAnswer(routing, common.body_mutation.body if mutation else None)


def _to_routing(response: Any, common: Any) -> Routing:
    set_headers = _set_headers(common.header_mutation)
    told = {}
    if response.HasField("dynamic_metadata"):
        metadata = to_python_fields(response.dynamic_metadata)
        assert ["envoy.lb"] == list(metadata)
        told = metadata["envoy.lb"]
    destination = told.pop("x-gateway-destination-endpoint", "")
    scores = told.pop("x-gateway-destination-endpoint-scores", None)
    assert not told
    assert common.clear_route_cache == bool(destination)
    if destination:
        *rest, last = set_headers
        assert ("x-gateway-destination-endpoint", destination) == last
        set_headers = tuple(rest)
    return Routing(destination, set_headers, tuple(common.header_mutation.remove_headers), scores)


def _set_headers(mutation: Any) -> tuple[tuple[str, str], ...]:
    for option in mutation.set_headers:
        assert option.append_action == OVERWRITE_IF_EXISTS_OR_ADD
        assert not option.header.value
    return tuple(
        (option.header.key.decode(), option.header.raw_value.decode("latin-1")) for option in mutation.set_headers
    )
