"""Secrets: what may be one, and texts that must hold none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from inferencepool.errors import ConfigurationError

__all__ = ["MAX_TOKEN", "check_token", "hide_secrets", "without_user"]

#: Bytes of a bearer token, at most.
MAX_TOKEN: Final = 64 * 1024
_TOKEN: Final = re.compile(r"[!-~]+")
_SHOWN: Final = 300
# Random texts have a digit soon; words and most names of files have none.
_RANDOM: Final = re.compile(r"(?=[A-Za-z+/_=.~-]*[0-9])[A-Za-z0-9+/_=.~-]{16,}")
_HIDDEN: Final = "***"
_LEAST_SECRET: Final = 4


def check_token(token: object, name: str) -> str:
    """
    Give *token* if it can stand in a header (RFC 6750, 2.1, has even fewer characters).

    Args:
        token: What is to be one.
        name: Where it was found, such as ``users[0].user.token`` or a file.

    Raises:
        ConfigurationError: It cannot; the message has *name*, and nothing of the token.
    """
    if not isinstance(token, str):
        message = f"{name}: is no text"
    elif not token:
        message = f"{name}: is empty"
    elif len(token) > MAX_TOKEN:
        message = f"{name}: is longer than {MAX_TOKEN} bytes"
    elif not _TOKEN.fullmatch(token):
        message = f"{name}: holds white space, a line break or another character that no token has"
    else:
        return token
    raise ConfigurationError(message)


def hide_secrets(text: str, known: Iterable[str] = ()) -> str:
    """Give *text* in one line, cut, without the *known* secrets and without whatever looks random enough to be one."""
    for secret in sorted({each for each in known if len(each) >= _LEAST_SECRET}, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    text = " ".join(_RANDOM.sub(_HIDDEN, text).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def without_user(url: str) -> str:
    """Give *url* without the name and the password that it may have."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that cannot be read"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
