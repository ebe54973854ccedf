"""
Chunks of a response's body that go back as they came, without a look at more than the few bytes around them.

A chunk comes as ``ProcessingRequest{response_body: HttpBody{body, end_of_stream}}`` and goes back as
``ProcessingResponse{response_body{response{body_mutation{streamed_response{body, end_of_stream}}}}}``. `HttpBody` and
``StreamedBodyResponse`` have the same fields, so what is inside goes back byte by byte.
"""

from __future__ import annotations

from typing import Final

from inferencepool.adapters.extproc._decode import is_remembered_metadata
from inferencepool.adapters.extproc._encode import chunk_heads

__all__ = ["hand_back"]

# ProcessingRequest
_RESPONSE_BODY: Final = 0x2A
_METADATA_CONTEXT: Final = 0x42
_NO_METADATA: Final = bytes((_METADATA_CONTEXT, 0))
# ProcessingResponse
_RESPONSE_BODY_ANSWER: Final = 0x22
# HttpBody
_BODY: Final = 0x0A
_END_OF_STREAM: Final = b"\x10\x01"

_CONTINUES: Final = 0x80
# A tag, a length of at most three bytes, and the same for the body.
_LONGEST_HEADS: Final = 8
# The shortest chunk that ends a body.
_LAST: Final = tuple(bytes((_RESPONSE_BODY, 2)) + _END_OF_STREAM + metadata for metadata in (b"", _NO_METADATA))


def hand_back(data: bytes, most: int) -> tuple[bytes, int, int, bool] | None:
    """
    Write the answer to a chunk of a response's body in full duplex, where that is all there is to it.

    Args:
        data: A ``ProcessingRequest``.
        most: Bytes of the largest chunk that may go back as one.

    Returns:
        The answer, the same that `encode` gives to the chunk that `decode` finds, where in *data* the chunk begins and
        ends, and whether it ends the body. None for whatever is to go the usual way: other messages, fields in another
        order, unknown ones, metadata that was not seen before, larger chunks, and empty ones that end nothing.
    """
    size = len(data)
    if size < _LONGEST_HEADS or data[0] != _RESPONSE_BODY:
        return (_LAST_ANSWER, 2, 2, True) if data in _LAST else None
    length, inner = data[1], 2
    if length >= _CONTINUES:
        length, inner = _read_length(data, 1)
    stop = inner + length
    if stop > size or not length:
        return None
    start = end = inner
    if data[inner] == _BODY:
        length, start = data[inner + 1], inner + 2
        if length >= _CONTINUES:
            length, start = _read_length(data, inner + 1)
        end = start + length
        if not 0 < length <= most:
            return None
    ends = end != stop
    if ends and data[end:stop] != _END_OF_STREAM:
        return None
    if stop != size and (tail := data[stop:]) != _NO_METADATA and not _is_known_metadata(tail):
        return None
    return chunk_heads(_RESPONSE_BODY_ANSWER, stop - inner) + data[inner:stop], start, end, ends


_LAST_ANSWER: Final = chunk_heads(_RESPONSE_BODY_ANSWER, len(_END_OF_STREAM)) + _END_OF_STREAM


def _read_length(data: bytes, at: int) -> tuple[int, int]:
    """Read a length of two or three bytes; give it and where it ends, and 0 where it has more than it needs or can."""
    more = data[at + 1]
    if more < _CONTINUES:
        return (data[at] - _CONTINUES + (more << 7) if more else 0), at + 2
    most = data[at + 2]
    if not 0 < most < _CONTINUES:
        return 0, at + 3
    return data[at] - _CONTINUES + (more - _CONTINUES << 7) + (most << 14), at + 3


def _is_known_metadata(field: bytes) -> bool:
    if len(field) < len(_NO_METADATA) or field[0] != _METADATA_CONTEXT:
        return False
    length, start = field[1], 2
    if length >= _CONTINUES:
        if len(field) < _CONTINUES:
            return False
        length, start = _read_length(field, 1)
    return start + length == len(field) and is_remembered_metadata(field[start:])
