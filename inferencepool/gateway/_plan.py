"""What a configuration comes to for one pool: choices left open are made, and what cannot be honored is refused."""

from __future__ import annotations

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.gateway._address import HostPort
from inferencepool.gateway._options import BodyMode, ClusterKind, EnvoyOptions, Fallback
from inferencepool.model import EndpointPickerRef, FailureMode, InferencePool
from inferencepool.model._protocol import CONTROL_HEADERS, DESTINATION

__all__ = ["Plan", "plan"]

_RETRIES = 3
# A pool of v1alpha2 may leave the port of its picker out; its API says which one is meant then.
_PICKER_PORT = 9002


@attrs.frozen(kw_only=True)
class Plan:
    """
    What a configuration comes to for one pool.

    Attributes:
        pool: The pool.
        options: What was chosen.
        fail_open: Whether requests are served while the picker fails.
        epp: Where the picker is.
        body_mode: How it gets the request's body; never ``auto``.
        fallback: Where a request without a usable pick goes; never ``auto``.
        retries: How often a request is sent again.
        retry_resets: Whether that goes for requests that an endpoint had, too.
        stripped: The request headers that are removed where they come in, in lower case.
    """

    pool: InferencePool
    options: EnvoyOptions
    fail_open: bool
    epp: HostPort
    body_mode: BodyMode
    fallback: Fallback
    retries: int
    retry_resets: bool
    stripped: tuple[str, ...]

    @property
    def pool_cluster(self) -> str:
        """Give the name of the cluster of endpoints."""
        return f"{self.pool.namespace}/{self.pool.name}"

    @property
    def epp_cluster(self) -> str:
        """Give the name of the picker's cluster."""
        return f"{self.pool_cluster}/endpoint-picker"


def plan(pool: InferencePool, options: EnvoyOptions) -> Plan:
    """
    Make the choices that *options* leave to the pool.

    Raises:
        ConfigurationError: Envoy cannot do what pool and options ask for together, or nothing tells where the picker
            is; the message names the option and the reason.
    """
    picker = pool.endpoint_picker_ref
    fail_open = picker is not None and picker.failure_mode is FailureMode.FAIL_OPEN
    _refuse_what_cannot_fail_open(options, fail_open=fail_open)
    if options.cluster is ClusterKind.ORIGINAL_DST:
        _refuse_what_needs_endpoints(options)
    overrides = options.cluster is ClusterKind.OVERRIDE_HOST
    fallback = options.fallback
    if fallback is Fallback.AUTO:
        fallback = Fallback.LEAST_REQUEST if fail_open else Fallback.NONE
    if options.outlier_detection and fallback is Fallback.NONE:
        message = (
            "outlier_detection: has no effect with the fallback none: Envoy sends a request to the endpoint that the "
            "picker names, also where it has ejected it; use least-request, or round-robin"
        )
        raise ConfigurationError(message)
    mode = options.body_mode
    if mode is BodyMode.AUTO:
        mode = BodyMode.BUFFERED if fail_open else BodyMode.FULL_DUPLEX
    retries = options.retries
    if retries is None:
        retries = _RETRIES if overrides else 0
    return Plan(
        pool=pool,
        options=options,
        fail_open=fail_open,
        epp=options.epp_address or _service_of(pool, picker),
        body_mode=mode,
        fallback=fallback,
        retries=retries,
        retry_resets=fail_open if options.retry_resets is None else options.retry_resets,
        stripped=tuple(
            dict.fromkeys(
                name for name in (*CONTROL_HEADERS, *options.strip_headers) if name not in options.keep_headers
            )
        ),
    )


def _refuse_what_cannot_fail_open(options: EnvoyOptions, *, fail_open: bool) -> None:
    if not fail_open:
        return
    if options.cluster is ClusterKind.ORIGINAL_DST:
        message = (
            "cluster: original-dst cannot honor failureMode FailOpen: it knows no endpoints, so that without an answer "
            "of the picker every request gets 503; use override-host, or FailClose in the pool"
        )
        raise ConfigurationError(message)
    if options.body_mode is BodyMode.FULL_DUPLEX:
        message = (
            "body_mode: full-duplex cannot honor failureMode FailOpen: Envoy answers 500 to every request with a body "
            "when the picker fails; use buffered, none, or FailClose in the pool"
        )
        raise ConfigurationError(message)
    if options.fallback is Fallback.NONE:
        message = (
            "fallback: none cannot honor failureMode FailOpen: without a pick there is nowhere to go; "
            "use least-request, round-robin, or FailClose in the pool"
        )
        raise ConfigurationError(message)


def _refuse_what_needs_endpoints(options: EnvoyOptions) -> None:
    reason = ""
    if options.fallback not in {Fallback.AUTO, Fallback.NONE}:
        reason = f"fallback: {options.fallback} needs endpoints to choose from"
    elif options.retries:
        reason = f"retries: {options.retries} would go to the endpoint that has just failed"
    elif options.outlier_detection:
        reason = "outlier_detection: would eject endpoints in vain"
    elif options.eds_file is not None:
        reason = f"eds_file: {options.eds_file!r} would not be read"
    elif DESTINATION in options.keep_headers:
        reason = f"keep_headers: {DESTINATION!r} would let every client choose the address that Envoy dials"
    if reason:
        message = f"{reason}: an original-dst cluster knows no endpoints and dials the address in a header"
        raise ConfigurationError(message)


def _service_of(pool: InferencePool, picker: EndpointPickerRef | None) -> HostPort:
    where = f"InferencePool {pool.namespace}/{pool.name}"
    if picker is None:
        message = f"epp_address: is needed, for {where} has no spec.endpointPickerRef"
        raise ConfigurationError(message)
    if (picker.group, picker.kind) != ("", "Service"):
        kind = f"{picker.kind}.{picker.group}" if picker.group else picker.kind
        message = f"epp_address: is needed, for the endpointPickerRef of {where} is a {kind}, whose address is unknown"
        raise ConfigurationError(message)
    try:
        return HostPort(f"{picker.name}.{pool.namespace}.svc", picker.port or _PICKER_PORT)
    except ConfigurationError as error:
        message = f"epp_address: is needed, for the endpointPickerRef of {where} names no Service: {error}"
        raise ConfigurationError(message) from None
