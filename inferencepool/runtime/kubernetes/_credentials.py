"""How requests are signed: with a token, with what a file or a plugin gives, or with a password."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Final, final

import httpx2

from inferencepool.errors import ConfigurationError, InvalidDocumentError
from inferencepool.runtime.files import read_file
from inferencepool.runtime.kubernetes._plugin import TokenPlugin
from inferencepool.runtime.kubernetes._secrets import MAX_TOKEN, check_token

if TYPE_CHECKING:
    from lightkube.config.models import User

__all__ = ["Credentials", "make_credentials"]

_UNAUTHORIZED: Final = 401


@final
class Credentials(httpx2.Auth):
    """Signs requests with a token, and asks for another one, once, when a server refuses it (401)."""

    def __init__(self, fetch: Callable[[], Awaitable[str]], plugin: TokenPlugin | None = None) -> None:
        """Sign with what *fetch* gives; *plugin* is what it runs."""
        self._fetch = fetch
        self._plugin = plugin
        self._token: str | None = None

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Sign *request*."""
        token = self._token
        if token is None:
            token = self._token = await self._fetch()
        request.headers["authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code != _UNAUTHORIZED:
            return
        if self._token == token:
            # Nobody else has asked meanwhile.
            self._token = await self._fetch()
        if self._token != token or self._plugin is None:
            request.headers["authorization"] = f"Bearer {self._token}"
            yield request

    async def close(self) -> None:
        """End what runs."""
        if self._plugin is not None:
            await self._plugin.close()


def make_credentials(user: User | None, name: str = "user") -> httpx2.Auth | None:
    """
    Give how *user* signs requests; None for without, or by certificate alone.

    Raises:
        ConfigurationError: It cannot be, with the field's path, which begins with *name*, and never its value.
    """
    if user is None:
        return None
    if user.token_file:
        path = user.token_file

        async def read_token() -> str:
            return read_token_file(path)

        return Credentials(read_token)
    if user.token:
        check_token(user.token, f"{name}.token")
        return _Bearer(user.token)
    if user.exec is not None:
        plugin = TokenPlugin(user.exec)
        return Credentials(plugin.fetch, plugin)
    if user.username and user.password:
        _check_password(user.username, f"{name}.username", ":")
        _check_password(user.password, f"{name}.password")
        return httpx2.BasicAuth(user.username, user.password)
    if user.auth_provider:
        message = f"{name}.auth-provider: is not supported"
        raise ConfigurationError(message)
    return None


def read_token_file(path: str) -> str:
    """
    Read the token in a file; white space around it does not count, as in other clients.

    Raises:
        ConfigurationError: There is none; names the file.
    """
    try:
        content = read_file(path, MAX_TOKEN + 2)
    except InvalidDocumentError as error:
        message = f"token file {error}"
        raise ConfigurationError(message) from None
    return check_token(content.decode("latin-1").strip(), f"token file {path}")


@final
class _Bearer(httpx2.Auth):
    """Signs requests with one token; its ``repr`` does not show it."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        request.headers["authorization"] = self._header
        yield request


def _check_password(text: str, name: str, forbidden: str = "") -> None:
    """Refuse what RFC 7617 (2) refuses: control characters, and a colon in the name of a user."""
    if not text.isprintable() or any(character in text for character in forbidden):
        message = f"{name}: holds a control character or another one that is not allowed"
        raise ConfigurationError(message)
