"""Between the values of ext_proc and their protobuf form, without a protobuf library."""

from inferencepool.adapters.extproc._decode import decode
from inferencepool.adapters.extproc._encode import encode
from inferencepool.adapters.extproc._handing_back import hand_back

__all__ = ["decode", "encode", "hand_back"]
