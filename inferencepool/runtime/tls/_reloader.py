"""Certificates that are exchanged while servers use them."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from math import isfinite
from pathlib import Path
from typing import final

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.tls._certificate import CHAIN_FILE, KEY_FILE, read_certificate, utc
from inferencepool.runtime.tls._context import check_version, make_context

__all__ = ["CertificateReloader"]

# Of each file: inode, size, and the times of the last changes of content and of the inode; None without the file.
_Stamp = tuple[tuple[int, int, int, int] | None, ...]


@final
class CertificateReloader:
    """
    A TLS context that follows the files of a certificate directory.

    Handshakes that begin after a change see the new certificate; connections that are open go on. A pair that cannot
    be used (half written, or the files do not belong together) is reported once, and the former one stays until the
    files change again.

    One thread at a time may call `check`; `run` does so by itself.

    Attributes:
        context: For any number of servers; always the same object. Its ``sni_callback`` is taken.
    """

    def __init__(
        self,
        certificate_directory: str | os.PathLike[str],
        *,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        interval: float = 1.0,
        on_reload: Callable[[], None] | None = None,
        on_problem: Callable[[str], None] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Read the directory and make the context as `server_context` does.

        Args:
            certificate_directory: Holds ``tls.crt`` and ``tls.key``, as files or as links, as in a mounted secret.
            minimum_version: TLS 1.2 or 1.3.
            interval: Seconds between two looks at the files; more than 0.
            on_reload: Called after a new certificate came into use, in the thread that called `check`.
            on_problem: Called with one sentence that names file and reason: a new pair cannot be used, or a pair is
                used though it is outside its dates.
            sleep: Waits for a number of seconds.
            clock: Tells the time, in seconds since 1970.

        Raises:
            ConfigurationError: A file cannot be used, the files do not belong together, or an argument is not allowed;
                the message names it.
            MissingExtraError: The package ``cryptography`` is not installed.
        """
        if not (isfinite(interval) and interval > 0):
            message = f"certificate reloader: interval: {interval!r} is not a finite number of seconds above 0"
            raise ConfigurationError(message)
        self._directory = Path(certificate_directory)
        self._minimum_version = check_version(minimum_version)
        self._interval = interval
        self._on_reload = on_reload or (lambda: None)
        self._on_problem = on_problem or (lambda _problem: None)
        self._sleep = sleep
        self._clock = clock
        # Taken before the files are read, so that whatever changes meanwhile is seen at the next look.
        self._stamp = self._look()
        self._certificate = read_certificate(self._directory)
        self.context = self._current = make_context(self._certificate, minimum_version)
        # A context cannot forget a certificate: after a change from RSA to EC it would go on showing the former one to
        # some clients. So each handshake moves to a context that never knew another certificate.
        self.context.sni_callback = self._choose_context
        self._report_dates()

    def check(self) -> bool:
        """Look at the files and give whether a new certificate came into use; what files hold raises nothing."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            certificate = read_certificate(self._directory)
            if certificate == self._certificate:
                return False
            self._current = make_context(certificate, self._minimum_version)
        except (ConfigurationError, OSError) as error:
            self._on_problem(f"{error}; the former certificate stays in use")
            return False
        self._certificate = certificate
        self._report_dates()
        self._on_reload()
        return True

    async def run(self) -> None:
        """Look at the files every interval until cancelled, beside the event loop."""
        while True:
            await self._sleep(self._interval)
            await asyncio.to_thread(self.check)

    def _look(self) -> _Stamp:
        return tuple(_stamp_of(self._directory / name) for name in (CHAIN_FILE, KEY_FILE))

    def _report_dates(self) -> None:
        problem = self._certificate.find_problem(utc(self._clock()))
        if problem is not None:
            self._on_problem(f"{self._directory / CHAIN_FILE}: {problem}")

    def _choose_context(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


def _stamp_of(file: Path) -> tuple[int, int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
