"""When an endpoint is ejected that is ready, and ill by what comes back from it."""

from __future__ import annotations

from functools import partial

import attrs

from inferencepool._checks import checked_number, checked_whole_number

__all__ = ["OutlierDetection"]

_OWNER = "registry: outlier_detection"
_whole = partial(checked_whole_number, _OWNER)
_number = partial(checked_number, _OWNER)


@attrs.frozen(kw_only=True)
class OutlierDetection:
    """
    When an endpoint is ejected, for how long, and how many of a fleet at most.

    Names and meanings are those of Envoy's outlier detection where it has them. An ejected endpoint gets requests only
    where no other is left. When its time is over, one request probes it; what becomes of that decides. So times are
    shorter here than Envoy's 30 s and 300 s, after which all requests go there again.

    Attributes:
        consecutive_gateway_failure: Gateway failures in a row that eject; 0 for never.
        consecutive_5xx: Failures of any kind in a row that eject; 0 for never.
        interval: Seconds of the window over which success rates are compared; every ejection makes the next one
            longer, and every window without one shorter.
        base_ejection_time: Seconds of the first ejection; the second in a row takes twice that, and so on.
        max_ejection_time: Most seconds of an ejection.
        max_ejection_time_jitter: Most seconds that chance adds, so that pickers do not probe in step.
        max_ejection_percent: Most of the fleet, in percent, that is ejected at a time; one endpoint always may be.
            Those that say that they are busy, or that they do not have a model, do not count. Where all others fail as
            well, all are used.
        success_rate_minimum_hosts: Success rates are compared where so many endpoints have enough requests.
        success_rate_request_volume: Requests in a window that are enough.
        success_rate_stdev_factor: How many standard deviations below the mean eject, if that is at least 5 % of the
            requests.
        consecutive_model_not_found: How many times in a row an endpoint says that it does not have a model that
            was served before, by whomever, until it is ejected for that model; 0 for never.
        max_busy_time: Most seconds of a ``Retry-After`` that are waited.
        client_error_volume: Answers in a window from which on shares of 4xx are compared.
        client_error_share: How far its share of 4xx is above that of all others, 0 to 1, where an endpoint is ejected.
        stalled_floor: Least seconds without any answer that make an endpoint stalled; infinite for never.
        stalled_factor: How many times as long as the median of the others that is at least.

    Raises:
        ConfigurationError: A value is not allowed.
    """

    consecutive_gateway_failure: int = attrs.field(default=5, validator=_whole(0, None))
    consecutive_5xx: int = attrs.field(default=5, validator=_whole(0, None))
    interval: float = attrs.field(default=10.0, validator=_number(1, 3600))
    base_ejection_time: float = attrs.field(default=2.0, validator=_number(0.05, 3600))
    max_ejection_time: float = attrs.field(default=8.0, validator=_number(0.05, 3600))
    max_ejection_time_jitter: float = attrs.field(default=0.5, validator=_number(0, 3600))
    max_ejection_percent: float = attrs.field(default=50.0, validator=_number(0, 100))
    success_rate_minimum_hosts: int = attrs.field(default=5, validator=_whole(2, None))
    success_rate_request_volume: int = attrs.field(default=100, validator=_whole(1, None))
    success_rate_stdev_factor: float = attrs.field(default=1.9, validator=_number(0, infinite=True))
    consecutive_model_not_found: int = attrs.field(default=3, validator=_whole(0, None))
    max_busy_time: float = attrs.field(default=30.0, validator=_number(0, 3600))
    client_error_volume: int = attrs.field(default=10, validator=_whole(1, None))
    client_error_share: float = attrs.field(default=0.5, validator=_number(0, 1))
    stalled_floor: float = attrs.field(default=5.0, validator=_number(0.1, infinite=True))
    stalled_factor: float = attrs.field(default=5.0, validator=_number(1, infinite=True))
