"""Between the values of ext_proc and their protobuf form, without a protobuf library."""

from inferencepool.adapters.extproc._decode import decode
from inferencepool.adapters.extproc._encode import encode

__all__ = ["decode", "encode"]
