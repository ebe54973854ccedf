"""From a request's headers and body to an endpoint, and to what changes about the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from inferencepool._showing import show_names
from inferencepool.adapters.bodies import ParsedBody, UsageKind, splice_model
from inferencepool.adapters.bodies._requests import check_model, request_of
from inferencepool.adapters.extproc._chunks import Pieces
from inferencepool.adapters.extproc._exchange import RequestTraits
from inferencepool.adapters.extproc._messages import BodyMode, Metadata, RequestHeaders, Routing
from inferencepool.errors import (
    InvalidMessageError,
    InvalidRequestError,
    RequestTooLargeError,
    UnreadableBodyError,
)
from inferencepool.model import InferenceRequest
from inferencepool.model import _protocol as names
from inferencepool.scheduling import PickResult, SubsetHint

if TYPE_CHECKING:
    from inferencepool.adapters.extproc._processor import ExternalProcessor

__all__ = ["Decision", "Inquiry", "decide", "inquire", "subset_of"]

# Endpoints of a subset hint.
_MOST_IN_SUBSET = 10_000


@attrs.define
class Inquiry:
    """
    A request as far as it was read. Holds its prompt, so it is let go of once the decision is made.

    Attributes:
        request: What the picker is asked.
        traits: By what metrics tell the request apart.
        target: The model to rewrite to; None to keep the client's.
        rewrite: Name of the `InferenceModelRewrite` that decided so; empty when none did.
        parsed: Its body; None when it has none.
        extra: Headers that it gets.
    """

    request: InferenceRequest
    traits: RequestTraits
    target: str | None
    rewrite: str
    parsed: ParsedBody | None
    extra: tuple[tuple[str, str], ...] = attrs.field(repr=show_names)


@attrs.define
class Decision:
    """
    Where a request goes. Kept until the response ends, so it holds nothing of the request's body.

    Not frozen, for the reason that `Exchange` is not.

    Attributes:
        result: The pick; it holds the reservation. Once the request is answered, it may be detached.
        routing: What the proxy is told.
        request_id: The request's id.
        traits: By what metrics tell the request apart.
        rewrite: Name of the `InferenceModelRewrite` that decided which model it gets; empty when none did.
        reads_response: Whether the response is of interest.
        response_headers: Headers that strategies want the response to have.
        usage: Where the response tells its usage.
    """

    result: PickResult
    routing: Routing
    request_id: str
    traits: RequestTraits
    rewrite: str = ""
    reads_response: bool = True
    usage: UsageKind = UsageKind.NONE
    response_headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=show_names)


def inquire(processor: ExternalProcessor, head: RequestHeaders, parsed: ParsedBody | None) -> Inquiry:
    """
    Tell what a request asks for. Order of the steps and texts of the errors as in the reference.

    Args:
        processor: What all sessions share.
        head: The request's headers.
        parsed: What its body tells; None when it has none.

    Raises:
        InvalidRequestError: The body names no model, or rewrites depend on the model and the body cannot be read.
        RequestTooLargeError: Rewrites depend on the model, and the body is longer than what its mode lets be read.
        UnreadableBodyError: Rewrites depend on the model, and the body's encoding hides it.
    """
    headers = head.headers
    asked = parsed.model if parsed is not None else None
    target, rewrite = _target_model(processor, head, parsed)
    check_model(parsed, target)
    request_id = headers.get(names.REQUEST_ID, "")
    extra: tuple[tuple[str, str], ...] = ()
    if not request_id:
        request_id = processor.new_request_id()
        extra = ((names.REQUEST_ID, request_id),)
    objective = names.value_of(names.OBJECTIVE, headers)
    priority = processor.priorities.get(objective, 0) if objective is not None else 0
    request = request_of(parsed, headers, target or asked or "", request_id, priority)
    traits = RequestTraits(asked or "", request.model, request.fairness_id, request.priority)
    return Inquiry(request, traits, target, rewrite, parsed, extra)


def decide(
    processor: ExternalProcessor,
    head: RequestHeaders,
    inquiry: Inquiry,
    body: bytes,
    subset: SubsetHint | None,
) -> tuple[Decision, Pieces | None]:
    """
    Decide where a request goes.

    Args:
        processor: What all sessions share.
        head: The request's headers.
        inquiry: What it asks for.
        body: Its body, if it was read.
        subset: Names the endpoints that it may go to; None where the proxy gave no hint.

    Returns:
        The decision, and the body with another model in it, in pieces; None when it stays as it is.

    Raises:
        NoEndpointsError: There is nothing to pick from.
        NotCachedError: The request is wanted only where its prompt is cached.
        StrategyError: A strategy broke its contract.
    """
    request, parsed, target, extra = inquiry.request, inquiry.parsed, inquiry.target, inquiry.extra
    result = processor.picker.pick(request, None if processor.options.ignore_subset else subset)
    try:
        replacement = None
        if parsed is not None and target is not None and target != parsed.model:
            replacement = splice_model(body if parsed.plain is None else parsed.plain, target, parsed.model_span)
            holds = head.request_body_mode in (BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL)
            if holds and "content-length" in head.headers:
                extra += (("content-length", str(sum(map(len, replacement)))),)
        routing = _to_routing(processor, result, head, extra)
        if replacement is not None and parsed is not None and parsed.plain is not None:
            # It leaves as it was read: to compress it again would cost more than the bytes between here and there.
            routing = attrs.evolve(routing, remove_headers=(*routing.remove_headers, "content-encoding"))
        wanted = tuple(result.response_headers.items())
    except BaseException:
        result.cancelled()
        raise
    decision = Decision(result, routing, request.id, inquiry.traits, inquiry.rewrite, response_headers=wanted)
    if parsed is not None:
        decision.reads_response, decision.usage = parsed.reads_response, parsed.usage
    return decision, replacement


def _target_model(
    processor: ExternalProcessor, head: RequestHeaders, parsed: ParsedBody | None
) -> tuple[str | None, str]:
    """Find the model to rewrite to, None to keep the client's, and the rewrite that says so, if it was no header."""
    if parsed is None:
        return None, ""
    if not parsed.can_rewrite:
        if processor.rewrites or names.value_of(names.MODEL_REWRITE, head.headers):
            _require_read(parsed)
        return None, ""
    decision = processor.rewrites.resolve(parsed.model, processor.rng)
    if decision is not None:
        return decision.model, decision.rewrite
    return names.value_of(names.MODEL_REWRITE, head.headers) or None, ""


def _require_read(parsed: ParsedBody) -> None:
    """Refuse a body that was not read: the server may find the model of a rewrite in it."""
    if parsed.unread_encoding:
        text = f"content-encoding: {parsed.unread_encoding!r} hides the model, allowed are gzip and deflate"
        raise UnreadableBodyError(text)
    if parsed.unread:
        text = f"{parsed.unread}; the model must be known where it may be rewritten"
        raise RequestTooLargeError(text) if parsed.is_cut else InvalidRequestError(text)


def subset_of(metadata: Metadata) -> SubsetHint | None:
    """
    Read the subset hint out of a message's metadata: a text or a list; None when there is none.

    Raises:
        InvalidMessageError: It names more than 10,000 endpoints.
    """
    hint = metadata.get(names.SUBSET_NAMESPACE, {}).get(names.SUBSET)
    if hint is None:
        return None
    is_text = isinstance(hint, str)
    if not is_text and not isinstance(hint, list):
        # What is no text names no endpoint; it is a limit nonetheless.
        return ()
    if (hint.count(",") if is_text else len(hint) - 1) >= _MOST_IN_SUBSET:
        # To leave it aside would let the request go anywhere.
        message = f"metadata {names.SUBSET}: names more than {_MOST_IN_SUBSET} endpoints"
        raise InvalidMessageError(message)
    return hint if is_text else [item for item in hint if isinstance(item, str)]


def _to_routing(
    processor: ExternalProcessor, result: PickResult, head: RequestHeaders, extra: tuple[tuple[str, str], ...]
) -> Routing:
    destination = result.destination
    if processor.options.fallbacks and result.fallback_slots:
        fallbacks = result.fallbacks[: processor.options.fallbacks]
        destination = ",".join([destination, *(endpoint.destination for endpoint in fallbacks)])
    forged: tuple[str, ...] = ()
    if not processor.forgeable.isdisjoint(head.headers):
        forged = tuple(sorted(processor.forgeable.intersection(head.headers)))
    scores = None
    if processor.options.emit_scores:
        scores = {item.endpoint.destination: item.total for item in result.explain().candidates}
    return Routing(destination, extra, forged, scores)
