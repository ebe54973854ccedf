"""
Bodies of vLLM's gRPC service ``vllm.grpc.engine.VllmEngine``: one message of protobuf in a frame.

The numbers of the fields are those of ``vllm/grpc/vllm_engine.proto`` in vllm-project/vllm; those of requests are the
same in all its versions.
"""

from __future__ import annotations

from array import array
from codecs import getincrementaldecoder

from inferencepool.adapters.bodies._body import ParsedBody, Route, UsageKind
from inferencepool.adapters.bodies._frames import HEADER_LENGTH
from inferencepool.adapters.bodies._protobuf import FIELDS_PER_STEP, all_fields
from inferencepool.adapters.bodies._steps import Budget, Steps, finished
from inferencepool.errors import InvalidRequestError

__all__ = ["VllmGrpcParser"]

_SERVICE = "vllm.grpc.engine.VllmEngine"
_GENERATE = f"{_SERVICE}/Generate"
_EMBED = f"{_SERVICE}/Embed"

_GREATEST_TOKEN = 2**32 - 1

_TOKEN_BYTES = 4
_LONGEST_VARINT = 10
_CONTINUING = bytes(range(0x80, 0x100))

# What is done in one step: bytes of numbers that are made, and bytes of numbers that are counted.
_BYTES_PER_STEP = 1 << 13
_CHUNK = 1 << 16

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
    names_model = False

    def parse(self, body: bytes, route: Route) -> ParsedBody:
        """
        Read *body*, one frame; a call of another claim is passed on as it is.

        Raises:
            InvalidRequestError: It is no whole frame, is compressed, is no such message, or has no prompt.
        """
        return finished(self.read(body, route, Budget()))

    def read(self, body: bytes, route: Route, budget: Budget) -> Steps[ParsedBody]:
        """Do in steps what `parse` does, as far as *budget* goes; see `SteppedParser`."""
        if route.claim not in self.claims:
            return ParsedBody(reads_response=False)
        message = _unframe(body)
        kind = "EmbedRequest" if route.claim == _EMBED else "GenerateRequest"
        try:
            return (
                yield from _read_embed(message, budget) if route.claim == _EMBED else _read_generate(message, budget)
            )
        except ValueError as error:
            if isinstance(error, InvalidRequestError):
                raise
            text = f"unmarshaling {kind}: {error}"
            raise InvalidRequestError(text) from None


def _unframe(body: bytes) -> memoryview:
    """Take the message out of its frame: a flag for compression, a length of 4 bytes, the message."""
    length = int.from_bytes(body[1:HEADER_LENGTH], "big")
    if len(body) < HEADER_LENGTH + length or len(body) < HEADER_LENGTH or body[0]:
        text = "invalid or unsupported gRPC payload"
        raise InvalidRequestError(text)
    return memoryview(body)[HEADER_LENGTH : HEADER_LENGTH + length]


def _read_generate(message: memoryview, budget: Budget) -> Steps[ParsedBody]:
    # Messages that come twice are merged, which is what reading all of them one after another does.
    tokenized: list[memoryview] | None = None
    text: memoryview | None = None
    sampling: list[memoryview] = []
    stream = False
    for count, (number, value) in enumerate((yield from all_fields([message])), 1):
        if not count % FIELDS_PER_STEP:
            yield
        if number == _TOKENIZED and isinstance(value, memoryview):
            if tokenized is None:
                tokenized, text = [], None
            tokenized.append(value)
        elif number == _TEXT and isinstance(value, memoryview):
            tokenized, text = None, value
        elif number == _SAMPLING and isinstance(value, memoryview):
            sampling.append(value)
        elif number == _STREAM and isinstance(value, int):
            stream = bool(value)
    limit = yield from _read_limit(sampling)
    if text is not None:
        prompt, unread = yield from _read_text(text, budget)
        return ParsedBody(
            prompt=prompt, prompt_unread=unread, stream=stream, max_output_tokens=limit, usage=UsageKind.VLLM_GRPC
        )
    if tokenized is None:
        reason = "not supported request inputType"
        raise InvalidRequestError(reason)
    tokens, unread = yield from _read_tokens(tokenized, budget)
    return ParsedBody(
        prompt_tokens=tokens,
        prompt_unread=unread,
        stream=stream,
        max_output_tokens=limit,
        usage=UsageKind.VLLM_GRPC,
    )


def _read_limit(sampling: list[memoryview]) -> Steps[int | None]:
    limit = None
    for count, (number, value) in enumerate((yield from all_fields(sampling)), 1):
        if not count % FIELDS_PER_STEP:
            yield
        if number == _MAX_TOKENS and isinstance(value, int):
            limit = value & _GREATEST_TOKEN
    return limit


def _read_embed(message: memoryview, budget: Budget) -> Steps[ParsedBody]:
    tokenized: list[memoryview] = []
    for count, (number, value) in enumerate((yield from all_fields([message])), 1):
        if not count % FIELDS_PER_STEP:
            yield
        if number == _TOKENIZED and isinstance(value, memoryview):
            tokenized.append(value)
    if not tokenized:
        reason = "missing tokenized input in EmbedRequest"
        raise InvalidRequestError(reason)
    tokens, unread = yield from _read_tokens(tokenized, budget)
    return ParsedBody(prompt_tokens=tokens, prompt_unread=unread, usage=UsageKind.VLLM_GRPC_EMBED)


def _read_text(text: memoryview, budget: Budget) -> Steps[tuple[bytes, int]]:
    """Give the text as far as the budget goes, and how many bytes follow; refuse what is read of it and no UTF-8."""
    size = min(len(text), budget.prompt_bytes)
    decoder = getincrementaldecoder("utf-8")()
    for at in range(0, size, _CHUNK):
        decoder.decode(text[at : min(at + _CHUNK, size)])
        yield
    decoder.decode(b"", final=size == len(text))
    return bytes(text[:size]), len(text) - size


def _read_tokens(messages: list[memoryview], budget: Budget) -> Steps[tuple[array[int], int]]:
    """Give the token ids as far as the budget goes, and four bytes for each that follows."""
    tokens = array("I")
    unread = 0
    for count, (number, value) in enumerate((yield from all_fields(messages)), 1):
        if not count % FIELDS_PER_STEP:
            yield
        if number != _INPUT_IDS:
            continue
        full = len(tokens) * _TOKEN_BYTES >= budget.prompt_bytes
        if isinstance(value, memoryview):
            at = 0
            while at < len(value):
                full = len(tokens) * _TOKEN_BYTES >= budget.prompt_bytes
                part = _whole_numbers(value, at, _CHUNK if full else _BYTES_PER_STEP)
                if full:
                    unread += len(part.translate(None, _CONTINUING)) * _TOKEN_BYTES
                else:
                    tokens.extend(_varints(part))
                at += len(part)
                yield
        elif full:
            unread += _TOKEN_BYTES
        else:
            tokens.append(value & _GREATEST_TOKEN)
    return tokens, unread


def _whole_numbers(data: memoryview, at: int, size: int) -> bytes:
    """Give about *size* bytes from *at* on, so that no number is cut in two."""
    part = data[at : at + size]
    while at + len(part) < len(data) and part[-1] > 0x7F and len(part) < size + _LONGEST_VARINT:  # noqa: PLR2004 - as below
        part = data[at : at + len(part) + 1]
    return bytes(part)


def _varints(data: bytes) -> list[int]:
    """Read the numbers of a packed field, of which the lowest 32 bits count."""
    if data and data[-1] > 0x7F:  # noqa: PLR2004 - the bit that says that a byte follows
        reason = "a number does not end"
        raise ValueError(reason)
    if data.isascii():  # each is a number of one byte
        return list(data)
    found = []
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        if byte > 0x7F:  # noqa: PLR2004 - as above
            shift += 7
            if shift > 63:  # noqa: PLR2004 - ten bytes hold 64 bits
                reason = "a number is longer than 10 bytes"
                raise ValueError(reason)
        else:
            found.append(value & _GREATEST_TOKEN)
            value = shift = 0
    return found
