"""A TLS server on a real socket that echoes, and clients that look at what it shows."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cryptography import x509

from tests.patience import PATIENCE


@asynccontextmanager
async def echoing(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def client_context(authority: bytes | None, maximum: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Make the context of a client that trusts *authority* only, or anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=authority.decode())
    if maximum is not None:
        context.maximum_version = maximum
    context.set_alpn_protocols(["http/1.1", "h2"])
    return context


def connect(port: int, context: ssl.SSLContext, host: str | None = "localhost") -> ssl.SSLSocket:
    """Open a connection; without a host name the client does not tell whom it wants."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def name_shown(connection: ssl.SSLSocket) -> str:
    """Give the common name of the certificate that the server showed."""
    shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    subject = x509.load_der_x509_certificate(shown).subject
    return str(subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def say(connection: ssl.SSLSocket, text: bytes) -> bytes:
    """Send a few bytes and read the echo."""
    connection.sendall(text)
    return connection.recv(100)
