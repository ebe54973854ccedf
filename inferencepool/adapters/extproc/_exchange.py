"""What became of one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import attrs

from inferencepool._showing import show_path
from inferencepool.adapters.bodies import Usage
from inferencepool.adapters.extproc._refusal import code_of
from inferencepool.errors import InferencePoolError

if TYPE_CHECKING:
    from inferencepool.adapters.extproc._decision import Decision

__all__ = ["DecisionObserver", "Exchange", "ExchangeObserver", "ExchangeObservers", "RequestTraits"]

_FIRST_ERROR_STATUS = 400


class RequestTraits(NamedTuple):
    """
    By what metrics tell requests apart. A tuple, so that it is a cheap key.

    Attributes:
        model: The model that the client asked for; empty when unknown.
        target_model: The model that it gets; the same unless rewritten.
        fairness_id: Whose request it is; empty where the request was refused before that was known.
        priority: Of the objective that the request names.
    """

    model: str = ""
    target_model: str = ""
    fairness_id: str = ""
    priority: int = 0


_UNKNOWN = RequestTraits()


@attrs.define(kw_only=True)
class Exchange:
    """
    What became of one request.

    Not frozen, because one is built for each request, and frozen values are twice as slow to build; nothing changes
    one.

    Attributes:
        request_id: Value of ``x-request-id``; made here when the client sent none.
        path: The request's path with its query.
        traits: The models, the fairness id and the priority, as far as they were known.
        destination: What the picker answered, ``ip:port`` or several; empty when it picked none.
        served: The endpoint that served, as the proxy told; empty when it did not tell.
        status: HTTP status: the picker's own if it refused the request, else the response's; 0 when unknown.
        error: Why the picker refused the request or failed on it; None if it did not.
        complete: Whether the end of the response was seen.
        usage: Tokens, where usage was wanted and the response told it.
        streaming: Whether the response is a stream of events, as far as its headers were seen.
        request_bytes: Size of the request's body, as far as it was seen.
        response_bytes: Size of the response's body, as far as it was seen; None where no part of it was.
        answered_after: From the request's headers to the answer that names the endpoint; None where there was none.
        first_byte_after: From the request's headers to the first part of the response's body; None where none was seen.
        seconds: From the request's headers to the end of what was seen.
    """

    request_id: str = ""
    path: str = attrs.field(default="", repr=show_path)
    traits: RequestTraits = _UNKNOWN
    destination: str = ""
    served: str = ""
    status: int = 0
    error: BaseException | None = None
    complete: bool = False
    usage: Usage | None = None
    streaming: bool = False
    request_bytes: int = 0
    response_bytes: int | None = None
    answered_after: float | None = None
    first_byte_after: float | None = None
    seconds: float = 0.0

    @property
    def model(self) -> str:
        """The model that the client asked for; empty when unknown."""
        return self.traits.model

    @property
    def target_model(self) -> str:
        """The model that the request got; the same unless rewritten."""
        return self.traits.target_model

    @property
    def refused(self) -> bool:
        """Whether the picker refused the request: it answered the client itself."""
        return isinstance(self.error, InferencePoolError) and self.error.http_status != InferencePoolError.http_status

    @property
    def error_code(self) -> str:
        """
        What went wrong, in a word: that of the refusal's body, ``Internal``, or ``ModelServerError``; empty if nothing.

        A response counts as an error from status 400 up. The reference counts any other than 200.
        """
        if self.error is not None:
            return code_of(self.error)
        return "ModelServerError" if self.status >= _FIRST_ERROR_STATUS else ""


class ExchangeObserver(Protocol):
    """**Protocol:** is told about every request when it is over, by the thread that drives its session."""

    def finished(self, exchange: Exchange, /) -> object:
        """Hear of a request that is over, as far as the session could see."""
        ...


class DecisionObserver(Protocol):
    """**Protocol:** an `ExchangeObserver` that is told as well as soon as a request got an endpoint."""

    def decided(self, decision: Decision, /) -> object:
        """Hear of a request that got an endpoint; `ExchangeObserver.finished` follows."""
        ...


class ExchangeObservers:
    """Several observers in one: tells each of them, in the order given."""

    def __init__(self, *observers: ExchangeObserver) -> None:
        """Tell *observers*, and of decisions those that offer `DecisionObserver.decided`."""
        self._finished = [observer.finished for observer in observers]
        self._decided = [told for observer in observers if (told := getattr(observer, "decided", None)) is not None]

    def decided(self, decision: Decision, /) -> None:
        """Tell of a request that got an endpoint."""
        for tell in self._decided:
            tell(decision)

    def finished(self, exchange: Exchange, /) -> None:
        """Tell of a request that is over."""
        for tell in self._finished:
            tell(exchange)
