"""The fastest reader of JSON that is installed."""

from __future__ import annotations

from inferencepool.adapters.bodies import Loads, loads_json

__all__ = ["fastest_loads"]


def fastest_loads() -> Loads:
    """
    Choose who reads the JSON of requests and responses: orjson, or msgspec, or the standard library.

    Which one it is changes nothing that `inferencepool.adapters.bodies` gives, with two exceptions: at which depth
    nesting is refused (somewhere about 1,000 levels), and how numbers of 2^64 and above stand in the prompt of a
    conversation, where tools or calls hold such numbers.
    """
    try:
        import orjson  # noqa: PLC0415 - an extra
    except ImportError:
        pass
    else:
        return orjson.loads
    try:
        import msgspec  # noqa: PLC0415 - an extra
    except ImportError:
        return loads_json
    return msgspec.json.Decoder().decode
