"""What an endpoint picker says about its health."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock
from typing import final

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.extproc import EXT_PROC_SERVICE
from inferencepool.runtime.health._wire import ServingStatus

__all__ = ["LIVENESS", "READINESS", "Health"]

#: Serving as long as the process answers.
LIVENESS = "liveness"
#: Serving when all conditions hold.
READINESS = "readiness"

_OnChange = Callable[[ServingStatus], None]


@attrs.frozen(eq=False)
class _Watch:
    """Who follows a service; *on_change* is None where the status never changes."""

    on_change: _OnChange | None
    on_close: Callable[[], None]


@final
class Health:
    """
    Which services are serving.

    ``liveness`` is serving from the beginning to the end: a restart makes no pool appear, so it depends on nothing.
    ``readiness``, the ext_proc service and the empty name are serving when every condition holds and the server is not
    draining. The reference picker lets ``liveness`` depend on the pool where there is no leader election; its own
    specification forbids that, and this class follows the specification.

    Thread-safe: conditions are set from wherever they are observed, and one lock guards them.
    """

    def __init__(
        self, conditions: Iterable[str] = ("synced",), *, services: Iterable[str] = (), any_name: bool = False
    ) -> None:
        """
        Begin with no condition met.

        Args:
            conditions: What must hold for readiness: names for `set` and `unmet`, such as ``synced`` (the pool is
                known) or ``leader``.
            services: Further names that follow readiness, such as ``inference-extension``, which charts ask for.
            any_name: Let every other name follow readiness, too, as the reference picker does without leader election;
                otherwise such a name is unknown.

        Raises:
            ConfigurationError: A condition is named twice or not at all, or *services* holds ``liveness``.
        """
        names = list(conditions)
        if len(set(names)) < len(names) or "" in names:
            message = f"health: conditions: {names!r}: each must have a name of its own"
            raise ConfigurationError(message)
        self._following = dict.fromkeys(("", READINESS, EXT_PROC_SERVICE, *services))
        if LIVENESS in self._following:
            message = f"health: services: {LIVENESS!r} does not depend on conditions"
            raise ConfigurationError(message)
        self._any_name = any_name
        self._lock = Lock()
        self._conditions = dict.fromkeys(names, False)
        self._draining = False
        self._closed = False
        self._watches: dict[object, _Watch] = {}

    @property
    def ready(self) -> bool:
        """Whether every condition holds and the server is not draining."""
        return not self._draining and all(self._conditions.values())

    @property
    def unmet(self) -> tuple[str, ...]:
        """The conditions that do not hold, in their order; ``draining`` stands for a server that drains."""
        with self._lock:
            unmet = tuple(name for name, holds in self._conditions.items() if not holds)
            return (*unmet, "draining") if self._draining else unmet

    def set(self, condition: str, holds: bool = True) -> None:
        """
        Tell whether *condition* holds.

        Raises:
            ConfigurationError: There is no such condition.
        """
        with self._lock:
            if condition not in self._conditions:
                message = f"health: no condition {condition!r}; there are {', '.join(self._conditions) or 'none'}"
                raise ConfigurationError(message)
            before = self.ready
            self._conditions[condition] = holds
            self._tell(before)

    def drain(self) -> None:
        """Stop being ready for good, so that gateways go elsewhere; liveness and open watches stay."""
        with self._lock:
            before = self.ready
            self._draining = True
            self._tell(before)

    def close(self) -> None:
        """Drain, and end all watches, which would otherwise hold up a server that waits for its open calls."""
        self.drain()
        with self._lock:
            self._closed = True
            watches = list(self._watches.values())
            self._watches.clear()
            for watch in watches:
                watch.on_close()

    def status(self, service: str) -> ServingStatus:
        """Give the status of *service*; SERVICE_UNKNOWN if it has none."""
        if service == LIVENESS:
            return ServingStatus.SERVING
        if self._any_name or service in self._following:
            return _status_of(self.ready)
        return ServingStatus.SERVICE_UNKNOWN

    def statuses(self) -> dict[str, ServingStatus]:
        """Give the status of every service with a name of its own, as of one moment."""
        status = _status_of(self.ready)
        return {LIVENESS: ServingStatus.SERVING, **dict.fromkeys(self._following, status)}

    def watch(self, service: str, on_change: _OnChange, on_close: Callable[[], None]) -> Callable[[], None]:
        """
        Follow the status of *service*.

        Args:
            service: Its name; one that is unknown stays so.
            on_change: Called with the present status, before this method returns, and with each other status in the
                order of the changes.
            on_close: Called once when `close` is, after all changes; at once if it was.

        The callbacks run in the thread that made the change, under the lock: they must not wait, nor use this object.

        Returns:
            A function that ends the watch; calling it again does nothing.
        """
        watch = object()
        with self._lock:
            on_change(self.status(service))
            if self._closed:
                on_close()
            else:
                follows = self._any_name or service in self._following
                self._watches[watch] = _Watch(on_change if follows and service != LIVENESS else None, on_close)

        def stop() -> None:
            with self._lock:
                self._watches.pop(watch, None)

        return stop

    def _tell(self, before: bool) -> None:
        ready = self.ready
        if ready != before:
            for watch in self._watches.values():
                if watch.on_change is not None:
                    watch.on_change(_status_of(ready))

    def __repr__(self) -> str:
        return f"<Health {', '.join(self.unmet) or 'ready'}>"


def _status_of(ready: bool) -> ServingStatus:
    return ServingStatus.SERVING if ready else ServingStatus.NOT_SERVING
