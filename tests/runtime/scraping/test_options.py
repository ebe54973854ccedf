"""Options of scraping."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.scraping import ScrapingOptions, ScrapingTls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({name: value}, f"scraping: {name}: .* is not a finite number of seconds above 0") for name in (
            "interval", "timeout", "idle_interval") for value in (0, -1, nan, inf, True, "1")),
        ({"idle_interval": 0.01}, "scraping: idle_interval: 0.01 is not interval, 0.05, or more"),
        ({"scheme": "ftp"}, "scraping: scheme: 'ftp' is none of 'http', 'https'"),
        *(({"path": path}, "scraping: path: .* is not a path") for path in ("", "x", "/a b", "/a\r\nx", "/é", "/#a")),
        *(({"port": port}, "scraping: port: .* is not a port from 1 to 65535") for port in (0, 65536, True, "80")),
        *(({"max_page_size": size}, "scraping: max_page_size: ") for size in (1023, 1 << 30, 1e6)),
        *(({"most_per_second": most}, "scraping: most_per_second: .* is not a number above 0")
          for most in (0, -1, nan, True, None, "5")),
        *(({"most_share": most}, "scraping: most_share: .* is not a number above 0, up to 1")
          for most in (0, -1, nan, 1.1, True, None, "0.5")),
        ({"tls": ScrapingTls(verify=True)}, "scraping: tls: it is of no use with the scheme http"),
    ],
)  # fmt: skip
def test_refused(options: dict[str, Any], message: str) -> None:
    """The error names the option, the value and what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        ScrapingOptions(**options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScrapingTls(ca_path="a"), "tls.ca_path: it is of no use without verify"),
        (lambda: ScrapingTls(server_name="a"), "tls.server_name: it is of no use without verify"),
        (lambda: ScrapingTls(cert_path="a"), "tls.cert_path: a certificate and its key_path are needed together"),
        (lambda: ScrapingTls(key_path="a"), "tls.cert_path: a certificate and its key_path"),
        (lambda: ScrapingTls(verify=True, ca_path="/none").context(), "tls.ca_path: /none cannot be used: No such"),
        (
            lambda: ScrapingTls(cert_path="/none", key_path="/b").context(),
            "tls.cert_path: /none with /b cannot be used: No such file",
        ),
    ],
)
def test_tls_refused(make: Callable[[], object], message: str) -> None:
    """Options that are of no use, and files that are not there, are errors."""
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_file_without_certificates(tmp_path: Path) -> None:
    """A file that holds no certificate is refused."""
    file = tmp_path / "ca.pem"
    file.write_text("nothing", encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"ca.pem cannot be used: NO_CERTIFICATE_OR_CRL_FOUND"):
        ScrapingTls(verify=True, ca_path=str(file)).context()


def test_contexts() -> None:
    """Certificates are verified where that is asked for."""
    assert ssl.CERT_NONE == ScrapingTls().context().verify_mode
    verifying = ScrapingTls(verify=True).context()
    assert (ssl.CERT_REQUIRED, True) == (verifying.verify_mode, verifying.check_hostname)
