"""How many series clients can make."""

from __future__ import annotations

import attrs

from inferencepool._checks import checked_whole_number

__all__ = ["CardinalityLimits"]

_whole = checked_whole_number("metrics", 0, None)


@attrs.frozen(kw_only=True)
class CardinalityLimits:
    """
    How many different values metrics may get from clients; what comes beyond is counted as ``other``.

    Attributes:
        models: Names of models, those asked for and those served together; those of model rewrites do not count. Half
            of them are for models that a model server answered for (a status from 200 to 299), so that names that
            clients make up do not take their places.
        fairness_ids: Fairness ids.
        requests: Combinations of models, fairness id and priority. The reference does not bound these.
        request_bytes: Bytes of the page that the series of all combinations may take. Where a histogram of one would
            take more, its values are counted under ``other`` for all four labels; then the whole combination is. Half
            of them are for the first fairness id of each model that a model server answered for.
        picks: Combinations of model and endpoint that picks are counted by; those that got none for the longest time
            are forgotten.

    Raises:
        ConfigurationError: A limit is no whole number of 0 or more.
    """

    models: int = attrs.field(default=100, validator=_whole)
    fairness_ids: int = attrs.field(default=1000, validator=_whole)
    requests: int = attrs.field(default=10_000, validator=_whole)
    request_bytes: int = attrs.field(default=1536 * 1024, validator=_whole)
    picks: int = attrs.field(default=2000, validator=_whole)
