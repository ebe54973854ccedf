"""What TLS contexts of servers offer, and which certificates they refuse."""

from __future__ import annotations

import asyncio
import ssl
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.tls import server_context
from inferencepool.runtime.tls._context import _in_memory, _on_disk
from inferencepool.testing import ManualClock
from tests.runtime.tls.authority import DAY, Authority, Pair, new_key, pem, write
from tests.runtime.tls.connecting import client_context, connect, echoing, name_shown, say

AUTHORITY = Authority()
PAIR = AUTHORITY.issue("first")
OTHER = AUTHORITY.issue("other")


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str | None = "localhost") -> tuple[str, ...]:
    """Connect; give version, ALPN protocol and the name shown."""

    def talk(port: int) -> tuple[str, ...]:
        with connect(port, client, host) as connection:
            assert say(connection, b"hello") == b"hello"
            return str(connection.version()), str(connection.selected_alpn_protocol()), name_shown(connection)

    async def run() -> tuple[str, ...]:
        async with echoing(server) as port:
            return await asyncio.to_thread(talk, port)

    return asyncio.run(run())


def test_directory_is_shown_and_http2_is_chosen(tmp_path: Path) -> None:
    """The certificate of the directory, TLS 1.3 and h2, where a client would take HTTP/1.1, too."""
    server = server_context(write(tmp_path, PAIR))

    assert handshake(server, client_context(AUTHORITY.pem)) == ("TLSv1.3", "h2", "first")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "epp.default.svc", "10.1.2.3", "2001:db8::5"])
def test_self_signed_certificate_is_for_loopback_and_the_given_names(host: str) -> None:
    """A client that trusts the certificate accepts these names and no other."""
    server = server_context(names=["epp.default.svc", "10.1.2.3", "2001:db8::5", "localhost"])

    async def fetch() -> str:
        async with echoing(server) as port:
            return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))

    shown = asyncio.run(fetch())
    assert handshake(server, client_context(shown.encode()), host) == ("TLSv1.3", "h2", "inferencepool")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client_context(shown.encode()), "elsewhere")


def test_self_signed_certificate_is_valid_for_ten_years_and_new_each_time() -> None:
    """Dates are counted from the given clock; no key is used twice."""

    async def fetch() -> x509.Certificate:
        async with echoing(server_context(clock=ManualClock(1_800_000_000.0))) as port:
            text = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
            return x509.load_pem_x509_certificate(text.encode())

    one, two = asyncio.run(fetch()), asyncio.run(fetch())
    assert one.not_valid_before_utc.timestamp() == 1_800_000_000.0 - 3600
    assert one.not_valid_after_utc.timestamp() == 1_800_000_000.0 + 3650 * 86400
    assert one.public_key() != two.public_key()
    assert one.serial_number != two.serial_number


@pytest.mark.parametrize("name", ["", "a b", "-a", "höst", "a\0b", "x" * 300])
def test_self_signed_certificate_for_no_name_is_refused(name: str) -> None:
    """The message shows the name."""
    with pytest.raises(ConfigurationError, match="is neither a host name in ASCII nor an IP address") as caught:
        server_context(names=[name])
    assert repr(name) in str(caught.value)


def test_old_versions_are_refused() -> None:
    """TLS 1.2 is the minimum, or 1.3 on request."""
    server = server_context()

    assert handshake(server, client_context(None, ssl.TLSVersion.TLSv1_2))[:2] == ("TLSv1.2", "h2")
    assert server.minimum_version == ssl.TLSVersion.TLSv1_2
    assert server.options & ssl.OP_NO_COMPRESSION
    assert server.options & ssl.OP_NO_RENEGOTIATION
    only_1_3 = server_context(minimum_version=ssl.TLSVersion.TLSv1_3)
    with pytest.raises(ssl.SSLError):
        handshake(only_1_3, client_context(None, ssl.TLSVersion.TLSv1_2))
    assert handshake(only_1_3, client_context(None))[0] == "TLSv1.3"


def test_only_ciphers_that_http2_allows_are_offered() -> None:
    """Ephemeral keys and authenticated encryption only."""
    names = [cipher["name"] for cipher in server_context().get_ciphers()]

    assert [name for name in names if not name.startswith(("TLS_", "ECDHE-"))] == []
    assert [name for name in names if "GCM" not in name and "CHACHA20" not in name] == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.MAXIMUM_SUPPORTED, "1.2"])
def test_other_minimum_versions_are_refused(version: ssl.TLSVersion) -> None:
    """Neither older ones nor those that mean any version."""
    with pytest.raises(ConfigurationError, match=r"minimum_version: .* is not allowed: TLS 1.2 or TLS 1.3"):
        server_context(minimum_version=version)


RSA = new_key("rsa")
SMALL = new_key("rsa", 1024)


@pytest.mark.parametrize(
    ("pair", "file", "reason"),
    [
        (Pair(b"", PAIR.key), "tls.crt", "no certificates in PEM"),
        (Pair(PAIR.chain[:-60], PAIR.key), "tls.crt", "no certificates in PEM"),
        (Pair(PAIR.key, PAIR.key), "tls.crt", "no certificates in PEM"),
        (Pair(PAIR.chain, b""), "tls.key", "no private key in PEM"),
        (Pair(PAIR.chain, PAIR.key[:-50]), "tls.key", "no private key in PEM"),
        (Pair(PAIR.chain, PAIR.chain), "tls.key", "no private key in PEM"),
        (Pair(PAIR.chain, pem(RSA, b"secret")), "tls.key", "has a password"),
        (Pair(PAIR.chain, OTHER.key), "tls.key", "not the private key of the first certificate in"),
        (Pair(PAIR.chain, pem(RSA)), "tls.key", "not the private key of the first certificate in"),
    ],
)
def test_files_that_cannot_be_used_are_named_with_the_reason(
    tmp_path: Path, pair: Pair, file: str, reason: str
) -> None:
    """Empty, cut and confused files, and a key of another certificate; no message shows a key."""
    write(tmp_path, pair)

    with pytest.raises(ConfigurationError) as caught:
        server_context(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / file}: ")
    assert reason in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)


def test_a_key_that_openssl_finds_too_short_is_refused(tmp_path: Path) -> None:
    """What only OpenSSL objects to is an error of ours, too."""
    with pytest.raises(ConfigurationError, match="OpenSSL refuses the certificate: EE_KEY_TOO_SMALL"):
        server_context(write(tmp_path, AUTHORITY.issue("short", SMALL)))


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key"])
def test_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    """With the reason of the operating system."""
    (write(tmp_path, PAIR) / missing).unlink()

    with pytest.raises(ConfigurationError) as caught:
        server_context(tmp_path)
    assert str(caught.value) == f"{tmp_path / missing}: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("begin", "end", "problem"),
    [(-3 * DAY, -DAY, "the certificate expired at 20"), (DAY, 2 * DAY, "the certificate is not valid before 20")],
)
def test_certificate_outside_its_dates_is_used_and_reported(
    tmp_path: Path, begin: object, end: object, problem: str
) -> None:
    """Clients that do not check dates are served."""
    problems: list[str] = []
    pair = AUTHORITY.issue("late", begin=begin, end=end)  # type: ignore[arg-type]  # both are times

    server = server_context(write(tmp_path, pair), on_problem=problems.append)

    assert len(problems) == 1
    assert problems[0].startswith(f"{tmp_path / 'tls.crt'}: {problem}")
    assert handshake(server, client_context(None))[2] == "late"
    assert isinstance(server_context(tmp_path), ssl.SSLContext)
    server_context(write(tmp_path, PAIR), on_problem=problems.append)
    assert len(problems) == 1


@pytest.mark.parametrize("show", [_in_memory, _on_disk])
def test_keys_are_shown_to_this_process_only_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, show: Callable[[bytes], object]
) -> None:
    """No other user can read them, and nothing stays on the disk."""
    if show is _in_memory and not sys.platform.startswith("linux"):
        pytest.skip("files in memory are Linux's")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    with show(PAIR.key) as name:  # type: ignore[attr-defined]  # both are context managers
        path = Path(name)
        assert path.read_bytes() == PAIR.key
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if show is _on_disk:
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()
    assert list(tmp_path.iterdir()) == []


def test_missing_extra_is_named() -> None:
    """With a directory as without."""
    script = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from inferencepool.runtime.tls import server_context\n"
        "from inferencepool.errors import MissingExtraError\n"
        "for directory in (None, '.'):\n"
        "    try: server_context(directory)\n"
        "    except MissingExtraError as error: print(error)\n"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert completed.stdout == 'TLS needs the package cryptography: pip install "inferencepool[epp]"\n' * 2
