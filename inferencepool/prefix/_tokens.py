"""Prompts of token ids."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from inferencepool.errors import InvalidRequestError

__all__ = ["token_bytes"]

_BYTES_OF_A_TOKEN = 4
_CODE = next(code for code in "IL" if array(code).itemsize == _BYTES_OF_A_TOKEN)
_MOST = 2**32 - 1


def token_bytes(ids: Sequence[int] | bytes) -> bytes:
    """
    Turn token ids into bytes that a prefix index compares: four per id, so that 16 ids are a block of 64 bytes.

    An ``array("I")`` is copied as a whole and bytes are passed on, taken to be packed already, for example by
    ``array("I", ids).tobytes()``. Anything else is walked, at about 6 ns per id.

    The bytes have the order of this machine: they are for indexes in this process, not for storing.

    Raises:
        InvalidRequestError: An id is no whole number from 0 to 2^32 - 1, or the bytes are no multiple of four.
    """
    if isinstance(ids, bytes | bytearray):
        if len(ids) % _BYTES_OF_A_TOKEN:
            message = f"prompt_tokens: {len(ids)} bytes are not four for each token id"
            raise InvalidRequestError(message)
        return bytes(ids)
    if isinstance(ids, array) and ids.typecode == _CODE:
        return ids.tobytes()
    try:
        return array(_CODE, ids).tobytes()
    except (TypeError, OverflowError):
        raise InvalidRequestError(_first_fault(ids)) from None


def _first_fault(ids: object) -> str:
    for index, value in enumerate(ids if isinstance(ids, Iterable) else ()):
        try:
            array(_CODE, [value])
        except (TypeError, OverflowError):
            return f"prompt_tokens[{index}]: {value!r} is not a token id, a whole number from 0 to {_MOST}"
    return f"prompt_tokens: {type(ids).__name__} is not a sequence of token ids"
