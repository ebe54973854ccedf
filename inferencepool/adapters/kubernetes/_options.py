"""How patient a reflector is."""

from __future__ import annotations

import attrs

from inferencepool._checks import checked_number, checked_whole_number

__all__ = ["ReflectorOptions"]

_seconds = checked_number("reflector", above=True, unit="seconds")
_count = checked_whole_number("reflector", 1, None)


@attrs.frozen(kw_only=True)
class ReflectorOptions:
    """
    How patient a reflector is.

    A connection that is dead without a sign is noticed after twice *watch_timeout* and *grace* at the latest. After any
    other failure the server is asked again within *retry_most*.

    Attributes:
        page_size: Objects in one page of a list.
        streaming_lists: Whether to ask for lists as a stream first, which costs the server least. A server that does
            not offer that is asked once.
        watch_timeout: Seconds after which the server shall end a watch in order, at least; twice that at most, chosen
            at random so that not all clients come back at once.
        grace: Seconds that a server may be late.
        page_timeout: Seconds that a page, or a list as a stream, may take.
        retry_first: Seconds to wait after a first failure, at most; doubled with each further one.
        retry_most: Seconds to wait after many failures, at most. What is waited is at least half of it.
        retry_refused: The same where the server says that the resource is not there (404, 405).
        retry_after_most: Seconds to wait at most because the server says so. Ten times in a row that is what is waited;
            from then on the longer of that and the usual time.
        healthy_after: Seconds that a watch must last for what failed before to be forgotten.
        max_line: Bytes of one event, and of one item of a long page, at most; Kubernetes keeps objects below 1.5 MiB.
        max_page: Bytes of one page, at most.
        max_pages: Pages of one list, at most.
        max_objects: Objects that there may be, at most. What a server tells beyond any of these is a failure: what was
            known stays, and it is asked again after the usual wait.

    Raises:
        ConfigurationError: A value is out of range; the message names the option.
    """

    page_size: int = attrs.field(default=500, validator=_count)
    streaming_lists: bool = True
    watch_timeout: float = attrs.field(default=60.0, validator=_seconds)
    grace: float = attrs.field(default=10.0, validator=_seconds)
    page_timeout: float = attrs.field(default=60.0, validator=_seconds)
    retry_first: float = attrs.field(default=0.8, validator=_seconds)
    retry_most: float = attrs.field(default=30.0, validator=_seconds)
    retry_refused: float = attrs.field(default=60.0, validator=_seconds)
    retry_after_most: float = attrs.field(default=300.0, validator=_seconds)
    healthy_after: float = attrs.field(default=5.0, validator=_seconds)
    max_line: int = attrs.field(default=2 << 20, validator=_count)
    max_page: int = attrs.field(default=64 << 20, validator=_count)
    max_pages: int = attrs.field(default=1000, validator=_count)
    max_objects: int = attrs.field(default=50_000, validator=_count)
