"""What asks an API server for something, step by step, without doing the asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import attrs

from inferencepool.errors import ApiServerError

__all__ = ["MAX_REASON", "Failure", "Feed", "Get", "Step", "Stream", "Wait", "WithoutStream"]

_T_co = TypeVar("_T_co", covariant=True)


#: Characters of a reason, at most; servers may say any number.
MAX_REASON = 1000


def cut(text: str) -> str:
    """Give *text*, cut to `MAX_REASON` characters."""
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}... ({len(text)} characters)"


@attrs.frozen
class Wait:
    """Wait *seconds*, then ask for the next step."""

    seconds: float


@attrs.frozen
class Get:
    """Get *path* with *params*, and hand over the whole body."""

    path: str
    params: Mapping[str, str]


@attrs.frozen
class Stream:
    """Get *path* with *params*, and hand over the body piece by piece as it comes."""

    path: str
    params: Mapping[str, str]


Step: TypeAlias = Wait | Get | Stream


@attrs.frozen
class Failure:
    """
    Why a step failed.

    Attributes:
        reason: What happened, in words; longer ones are cut to `MAX_REASON` characters.
        status: HTTP status, or the code of an error in a stream; None where there was no answer.
        retry_after: Seconds to wait, where the server said so.
    """

    reason: str = attrs.field(converter=cut)
    status: int | None = None
    retry_after: float | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """
        Read an `ApiServerError`, or the error of any client.

        An attribute ``status`` that is a number is taken for the HTTP status, as the clients `kubernetes`,
        `kubernetes-asyncio` and `aiohttp` name it.
        """
        if isinstance(error, ApiServerError):
            return cls(str(error), error.status, error.retry_after)
        status = getattr(error, "status", None)
        text = str(error)
        reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return cls(reason, status if isinstance(status, int) else None)


class Feed(Protocol, Generic[_T_co]):
    """
    **Protocol:** asks an API server for something, step by step, and tells what it learned.

    A feed does no I/O and does not wait. Whoever drives it asks for the next step, does it, hands over what came of it
    and begins again. Exactly one of `receive_page` and `fail` follows a `Get`. `receive_data` follows a `Stream` any
    number of times, as long as `listening` holds; then `end_stream` or `fail`, unless `listening` does not hold.

    What was handed over is read in slices, so that nothing else waits for long: after each `receive_page` and
    `receive_data`, call `read` as long as `unread` holds, and let others have their turn before each.
    """

    @property
    def subject(self) -> str:
        """What it asks for, in a word or two."""

    @property
    def problem(self) -> Failure | None:
        """Why what it told may be out of date; None when it is not, as far as it knows."""

    @property
    def refused(self) -> bool:
        """Whether the server says that the resource is not there, or lastingly that it is not for us."""

    @property
    def patience(self) -> float:
        """Seconds that the present `Get` may take, or that the next piece of a `Stream` may let wait for itself."""

    @property
    def listening(self) -> bool:
        """Whether the present `Stream` is of any more use; if not, close it."""

    @property
    def unread(self) -> bool:
        """Whether something of what was handed over last is not read yet."""

    def next_step(self) -> Step:
        """Give what to do next."""

    def read(self) -> Sequence[_T_co]:
        """Read on in what was handed over last, and give what changed."""

    def receive_page(self, body: bytes) -> Sequence[_T_co]:
        """Take the body of a `Get`, and give what changed."""

    def receive_data(self, data: bytes) -> Sequence[_T_co]:
        """Take a piece of a `Stream`, cut anywhere, and give what changed."""

    def end_stream(self) -> None:
        """Hear that the server ended a `Stream` in order."""

    def fail(self, failure: Failure) -> Sequence[_T_co]:
        """Hear that the present step failed, in whatever way, and give what that says."""


class WithoutStream:
    """The half of a `Feed` that asks for whole bodies, and reads each at once."""

    listening = False
    unread = False

    def read(self) -> list[Any]:
        """Read nothing."""
        return []

    def receive_data(self, data: bytes) -> list[Any]:  # noqa: ARG002 - as a feed has it
        """Take nothing."""
        return []

    def end_stream(self) -> None:
        """Do nothing."""
