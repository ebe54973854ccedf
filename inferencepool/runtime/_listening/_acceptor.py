"""Accepting connections, and making no more of them than they are worth so far."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

from inferencepool.runtime._listening._guests import Guest, Guests
from inferencepool.runtime._listening._tally import LimitTally

__all__ = ["Acceptor"]

_LOG = logging.getLogger(__name__)

# Connections that the system keeps until they are accepted.
_BACKLOG = 1024
# Connections that are accepted before it is the turn of others: what each of them costs falls in the same few rounds of
# the loop.
_AT_ONCE = 2
# What the system says when it has nothing left to accept with, and how many seconds it is left alone then.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE = 0.25
# How a TLS handshake begins (RFC 8446, 5.1).
_HANDSHAKE = b"\x16"


@final
class Acceptor:
    """
    Accepts connections. The event loop's thread guards it.

    In place of the loop's own accepting, which makes its objects at once, 256 KiB of them for TLS: here a connection
    is a socket until its peer says something, and with TLS until that is the beginning of a handshake. When the system
    has no descriptors left, accepting pauses, and that is told once.
    """

    def __init__(
        self,
        listener: asyncio.Server,
        guests: Guests,
        make: Callable[[Guest], asyncio.BaseProtocol],
        *,
        tls: ssl.SSLContext | None,
        seconds: float,
        tally: LimitTally,
    ) -> None:
        """
        Accept what comes at *listener*, which has not started to serve.

        Args:
            listener: Has the sockets, and is closed with this object.
            guests: Gives places to connections.
            make: Makes what serves a connection.
            tls: How to secure connections; None for no security.
            seconds: Time that a peer has to say something, and again for the handshake of TLS.
            tally: Told when a limit acts.
        """
        self.guests = guests
        self.make = make
        self.tls = tls
        self.seconds = seconds
        self.tally = tally
        self.loop = asyncio.get_running_loop()
        self.arrivals: set[_Arrival] = set()
        self._listener = listener
        # The loop watches descriptors; what `asyncio.Server.sockets` gives has no `accept`.
        self._sockets = [each.dup() for each in listener.sockets]
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accept."""
        self._timer = None
        for each in self._sockets:
            each.setblocking(False)
            # Repeated after a pause; asyncio listens only when it serves itself.
            each.listen(_BACKLOG)
            self.loop.add_reader(each, self._accept, each)

    def close(self) -> None:
        """Accept no more, and close connections that have not begun."""
        if self._timer is not None:
            self._timer.cancel()
        for each in self._sockets:
            self.loop.remove_reader(each)
            each.close()
        self._sockets.clear()
        self._listener.close()
        for arrival in self.arrivals.copy():
            arrival.close()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause(error)
                return
            connection.setblocking(False)
            guest = self.guests.admit(str(address[0]) if isinstance(address, tuple) and address else "")
            if guest is None:
                connection.close()
            else:
                self.arrivals.add(_Arrival(self, connection, guest))

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a moment; whoever has nothing to do gives its descriptor away."""
        self.tally.acted("descriptors", reason=error.strerror or str(error))
        for each in self._sockets:
            self.loop.remove_reader(each)
        self.guests.make_room()
        self._timer = self.loop.call_later(_PAUSE, self.start)


@final
class _Arrival:
    """A connection whose peer has not said anything yet, or whose handshake is not over."""

    def __init__(self, acceptor: Acceptor, connection: socket.socket, guest: Guest) -> None:
        self._acceptor = acceptor
        self._connection = connection
        self._guest = guest
        self._task: asyncio.Task[None] | None = None
        self._is_connected = False
        self._timer = acceptor.loop.call_later(acceptor.seconds, self._expire)
        guest.on_close = self.close
        acceptor.loop.add_reader(connection, self._hear)

    def close(self) -> None:
        """Hang up, unless it is somebody else's already."""
        if self._is_connected:
            return
        if self._task is not None:
            self._task.cancel()
            return
        self._timer.cancel()
        self._acceptor.loop.remove_reader(self._connection)
        self._end()

    def _expire(self) -> None:
        self._acceptor.tally.acted("handshake_seconds", peer=self._guest.peer)
        self.close()

    def _hear(self) -> None:
        """Look at the first byte, which stays where it is."""
        try:
            first = self._connection.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        acceptor = self._acceptor
        if not first or (acceptor.tls is not None and first != _HANDSHAKE):
            self.close()
            return
        self._timer.cancel()
        self._timer = acceptor.loop.call_later(acceptor.seconds, self._expire)
        acceptor.loop.remove_reader(self._connection)
        if acceptor.tls is not None:
            acceptor.guests.begin_handshake(self._guest)
        self._task = acceptor.loop.create_task(self._connect())
        self._task.add_done_callback(self._connected)

    async def _connect(self) -> None:
        acceptor = self._acceptor
        more: dict[str, Any] = {}
        if acceptor.tls is not None:
            # The loop's own limit would look like a peer that is gone, and be told to nobody.
            more = {"ssl": acceptor.tls, "ssl_handshake_timeout": 2 * acceptor.seconds}
        make = partial(acceptor.make, self._guest)
        await acceptor.loop.connect_accepted_socket(make, self._connection, **more)

    def _connected(self, task: asyncio.Task[None]) -> None:
        """See what became of it: a peer that is gone, or fails at the handshake, is no error of this side."""
        # The task's error knows this object, and all that TLS made: in a circle it would stay for long.
        self._task = None
        self._timer.cancel()
        if task.cancelled():
            self._end()
        elif (error := task.exception()) is not None:
            self._end()
            if not isinstance(error, OSError):
                _LOG.error("a connection failed", exc_info=error)
        else:
            self._is_connected = True
            self._acceptor.guests.end_handshake(self._guest)
            self._acceptor.arrivals.discard(self)

    def _end(self) -> None:
        self._acceptor.arrivals.discard(self)
        # A transport that has the socket closes it by itself, a moment later.
        with contextlib.suppress(OSError):
            self._connection.close()
        self._guest.leave()
