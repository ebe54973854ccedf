"""The flags of ``serve`` that say when an endpoint is ejected, made from the fields of `OutlierDetection`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, Final

import attrs

from inferencepool.cli._durations import duration, duration_or_off
from inferencepool.cli._flags import add_boolean, flag_of, usage_error_of, whole
from inferencepool.errors import ConfigurationError
from inferencepool.registry import OutlierDetection

__all__ = ["add_outlier_flags", "check_outlier_flags"]

_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18}")


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        message = f"{text!r} is not a number of 0 or more"
        raise argparse.ArgumentTypeError(message)
    return float(text)


# How the value of a field is shown in the help, and read.
_READERS: Final[dict[str, Callable[[str], float]]] = {
    "N": whole(),
    "NUMBER": _number,
    "PERCENT": _number,
    "TIME": duration,
    "TIME|off": duration_or_off,
}

# Each field of `OutlierDetection`: what its value is, and what it does.
_FIELDS: Final[dict[str, tuple[str, str]]] = {
    "consecutive_gateway_failure": ("N", "gateway failures in a row that eject; 0 for never"),
    "consecutive_5xx": ("N", "failures of any kind in a row that eject; 0 for never"),
    "interval": ("TIME", "window over which success rates are compared"),
    "base_ejection_time": ("TIME", "the first ejection lasts that long, until a request probes"),
    "max_ejection_time": ("TIME", "longest ejection"),
    "max_ejection_time_jitter": ("TIME", "most that chance adds to an ejection"),
    "max_ejection_percent": ("PERCENT", "most of the endpoints that are ejected at a time"),
    "success_rate_minimum_hosts": ("N", "endpoints with enough requests for success rates to be compared"),
    "success_rate_request_volume": ("N", "requests in a window that are enough"),
    "success_rate_stdev_factor": ("NUMBER", "standard deviations below the mean that eject"),
    "consecutive_model_not_found": ("N", "answers in a row that a model is not there that eject for it; 0 for never"),
    "max_busy_time": ("TIME", "longest Retry-After that is waited"),
    "client_error_volume": ("N", "answers in a window from which on shares of 4xx are compared"),
    "client_error_share": ("NUMBER", "share of 4xx above that of the others that ejects, 0 to 1"),
    "stalled_floor": ("TIME|off", "least time without any answer that makes an endpoint stalled"),
    "stalled_factor": ("NUMBER", "how many times the median of the others that is at least"),
}
# Flags that have other names than the fields, which would say too little here.
_NAMES: Final = {"interval": "outlier_detection_interval"}


def add_outlier_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags to *group*."""
    text = "avoid endpoints that are ready, and ill by what comes back from them"
    add_boolean(group, "--outlier-detection", text, default=True)
    for field in attrs.fields(OutlierDetection):
        kind, text = _FIELDS[field.name]
        shown = f"{field.default:g}{'s' if kind.startswith('TIME') else ''}"
        group.add_argument(
            flag_of(_NAMES.get(field.name, field.name)),
            metavar=kind,
            type=_READERS[kind],
            default=field.default,
            help=f"{text} ({shown})",
        )


def check_outlier_flags(arguments: argparse.Namespace) -> None:
    """Let ``arguments.outlier_detection`` be the rules, None for none; end with a message if one is not allowed."""
    given: dict[str, Any] = {name: getattr(arguments, _NAMES.get(name, name)) for name in _FIELDS}
    try:
        rules = OutlierDetection(**given)
    except ConfigurationError as error:
        unit = " (seconds)" if _FIELDS[error.field][0].startswith("TIME") else ""
        usage_error_of(arguments)(f"argument {flag_of(_NAMES.get(error.field, error.field))}: {error.reason}{unit}")
    arguments.outlier_detection = rules if arguments.outlier_detection else None
