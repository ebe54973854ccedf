"""
Bodies of vLLM's gRPC service ``vllm.grpc.engine.VllmEngine``: one message of protobuf in a frame.

The numbers of the fields are those of ``vllm/grpc/vllm_engine.proto`` in vllm-project/vllm; those of requests are the
same in all its versions. Those of responses are not, so usage is not read from them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from inferencepool.adapters.bodies._body import ParsedBody, Route
from inferencepool.errors import InvalidRequestError

__all__ = ["VllmGrpcParser"]

_SERVICE = "vllm.grpc.engine.VllmEngine"
_GENERATE = f"{_SERVICE}/Generate"
_EMBED = f"{_SERVICE}/Embed"

_HEADER_LENGTH = 5
_GREATEST_TOKEN = 2**32 - 1

# Wire types of protobuf.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# GenerateRequest; EmbedRequest has the tokens in the same field.
_TOKENIZED, _TEXT, _SAMPLING, _STREAM = 2, 3, 4, 5
# TokenizedInput
_INPUT_IDS = 2
# SamplingParams
_MAX_TOKENS = 8


class VllmGrpcParser:
    """Reads the calls Generate and Embed; their messages name no model."""

    name = "vllmgrpc-parser"
    claims = (_GENERATE, _EMBED)

    def parse(self, body: bytes, route: Route) -> ParsedBody:
        """
        Read *body*, one frame; a call of another claim is passed on as it is.

        Raises:
            InvalidRequestError: It is no whole frame, is compressed, is no such message, or has no prompt.
        """
        if route.claim not in self.claims:
            return ParsedBody(reads_response=False)
        message = _unframe(body)
        kind = "EmbedRequest" if route.claim == _EMBED else "GenerateRequest"
        try:
            return _read_embed(message) if route.claim == _EMBED else _read_generate(message)
        except ValueError as error:
            if isinstance(error, InvalidRequestError):
                raise
            text = f"unmarshaling {kind}: {error}"
            raise InvalidRequestError(text) from None


def _unframe(body: bytes) -> bytes:
    """Take the message out of its frame: a flag for compression, a length of 4 bytes, the message."""
    length = int.from_bytes(body[1:_HEADER_LENGTH], "big")
    if len(body) < _HEADER_LENGTH + length or len(body) < _HEADER_LENGTH or body[0]:
        text = "invalid or unsupported gRPC payload"
        raise InvalidRequestError(text)
    return body[_HEADER_LENGTH : _HEADER_LENGTH + length]


def _read_generate(message: bytes) -> ParsedBody:
    tokenized: bytes | None = None
    text: str | None = None
    sampling = b""
    stream = False
    for number, value in _fields(message):
        if number == _TOKENIZED and isinstance(value, bytes):
            # A message that comes twice is merged, which is what reading both after another does.
            tokenized, text = (tokenized or b"") + value, None
        elif number == _TEXT and isinstance(value, bytes):
            tokenized, text = None, value.decode()
        elif number == _SAMPLING and isinstance(value, bytes):
            sampling += value
        elif number == _STREAM and isinstance(value, int):
            stream = bool(value)
    limit = None
    for number, value in _fields(sampling):
        if number == _MAX_TOKENS and isinstance(value, int):
            limit = value & _GREATEST_TOKEN
    if text is not None:
        return ParsedBody(prompt=text.encode(), stream=stream, max_output_tokens=limit)
    if tokenized is None:
        reason = "not supported request inputType"
        raise InvalidRequestError(reason)
    return ParsedBody(prompt_tokens=_read_tokens(tokenized), stream=stream, max_output_tokens=limit)


def _read_embed(message: bytes) -> ParsedBody:
    tokenized = [value for number, value in _fields(message) if number == _TOKENIZED and isinstance(value, bytes)]
    if not tokenized:
        reason = "missing tokenized input in EmbedRequest"
        raise InvalidRequestError(reason)
    return ParsedBody(prompt_tokens=_read_tokens(b"".join(tokenized)))


def _read_tokens(message: bytes) -> array[int]:
    tokens = array("I")
    for number, value in _fields(message):
        if number != _INPUT_IDS:
            continue
        if isinstance(value, bytes):
            tokens.extend(_varints(value))
        else:
            tokens.append(value & _GREATEST_TOKEN)
    return tokens


def _varints(data: bytes) -> list[int]:
    """Read the numbers of a packed field, of which the lowest 32 bits count."""
    if data and data[-1] > 0x7F:  # noqa: PLR2004 - the bit that says that a byte follows
        reason = "a number does not end"
        raise ValueError(reason)
    found = []
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        if byte > 0x7F:  # noqa: PLR2004
            shift += 7
            if shift > 63:  # noqa: PLR2004 - ten bytes hold 64 bits
                reason = "a number is longer than 10 bytes"
                raise ValueError(reason)
        else:
            found.append(value & _GREATEST_TOKEN)
            value = shift = 0
    return found


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """
    Give number and value of each field, those of fixed length left out.

    Raises:
        ValueError: The message is malformed.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if not number:
            reason = "a field has the number 0"
            raise ValueError(reason)
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in {_FIXED64, _FIXED32}:
            length = 8 if wire == _FIXED64 else 4
        else:
            reason = f"field {number} has the unknown wire type {wire}"
            raise ValueError(reason)
        if at + length > len(message):
            reason = f"field {number} is longer than the message"
            raise ValueError(reason)
        # What has a fixed length is skipped: no field that is read here has one.
        if wire == _BYTES:
            yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << 7 * index
        if byte <= 0x7F:  # noqa: PLR2004 - no byte follows
            return value, at + index + 1
    reason = "a number does not end"
    raise ValueError(reason)
