"""An API server by way of lightkube: its kubeconfigs, credentials and TLS, and the HTTP client that it brings along."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, final

from inferencepool.errors import ApiServerError, ConfigurationError
from inferencepool.runtime._keep_alive import keep_alive
from inferencepool.runtime.kubernetes._kubeconfig import load_cluster
from inferencepool.runtime.kubernetes._secrets import without_user

if TYPE_CHECKING:
    import httpx2
    from lightkube.config.kubeconfig import SingleConfig

__all__ = ["LightkubeTransport"]

# Seconds.
_CONNECT: Final = 10.0
_ANSWER: Final = 60.0
_JSON: Final = "application/json"
_SHOWN: Final = 500
# Of an answer that refuses so much is read, in bytes.
_MAX_REFUSAL: Final = 64 * 1024
#: Bytes of an answer, unpacked, at most.
MAX_ANSWER: Final = 64 * 1024 * 1024


@final
class LightkubeTransport:
    """
    Asks an API server, as a `KubernetesTransport` and a `KubernetesWriter`.

    It takes what lightkube knows from a kubeconfig or from the pod that it runs in: address, certificates, and tokens,
    which are read again or asked for again when the server refuses them. Requests are its own: lightkube's client reads
    whole objects, and cannot be asked for bookmarks. It belongs to one event loop.

    A server may answer anything: an answer is read up to a limit, what is no JSON is refused, redirects are not
    followed, and no error shows a secret.
    """

    def __init__(self, config: SingleConfig | None = None, *, max_answer: int = MAX_ANSWER) -> None:
        """
        Prepare to ask the cluster of *config*; by default that of `load_cluster`.

        Args:
            config: The cluster, and how to sign in there.
            max_answer: Bytes of an answer, unpacked, at most; a stream may have any number.

        Raises:
            ConfigurationError: What *config* says of certificates or credentials cannot be used.
            MissingExtraError: lightkube is not installed.
        """
        self.config = config if config is not None else load_cluster()
        self._max_answer = max_answer
        self._client = _make_client(self.config)

    async def get(self, path: str, params: Mapping[str, str]) -> bytes:
        """
        Give the body of the answer.

        Raises:
            ApiServerError: The server refuses, or cannot be reached.
        """
        return await self._ask("GET", path, params=dict(params))

    async def stream_lines(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """
        Give the body of the answer piece by piece, an empty one first.

        Raises:
            ApiServerError: The server refuses, cannot be reached, or broke off.
        """
        import httpx2  # noqa: PLC0415 - comes with lightkube

        patient = httpx2.Timeout(None, connect=_CONNECT)
        what = self._describe("GET", path)
        with _translated(what):
            async with self._client.stream("GET", path, params=dict(params), timeout=patient) as response:
                await _check(what, response)
                _keep_alive(response)
                yield b""
                async for data in response.aiter_bytes():
                    yield data

    async def create(self, path: str, document: Mapping[str, Any]) -> bytes:
        """
        Create *document* in the collection at *path*.

        Raises:
            ApiServerError: The server refuses (409 if there is one of that name), or cannot be reached.
        """
        return await self._ask("POST", path, content=json.dumps(document), headers={"content-type": _JSON})

    async def replace(self, path: str, document: Mapping[str, Any]) -> bytes:
        """
        Replace the object at *path*.

        Raises:
            ApiServerError: The server refuses (409 if it was changed meanwhile), or cannot be reached.
        """
        return await self._ask("PUT", path, content=json.dumps(document), headers={"content-type": _JSON})

    async def close(self) -> None:
        """Close all connections, and end a plugin that runs."""
        await self._client.aclose()
        close = getattr(self._client.auth, "close", None)
        if close is not None:
            await close()

    async def _ask(self, method: str, path: str, **request: Any) -> bytes:
        what = self._describe(method, path)
        with _translated(what):
            async with self._client.stream(method, path, **request) as response:
                await _check(what, response)
                body, is_whole = await _read(response, self._max_answer)
                if not is_whole:
                    message = f"{what}: the answer has more than {self._max_answer} bytes"
                    raise ApiServerError(message)
                return body

    def _describe(self, method: str, path: str) -> str:
        return f"{method} {without_user(self.config.cluster.server)}{path}"

    def __repr__(self) -> str:
        return f"<LightkubeTransport to {without_user(self.config.cluster.server)}>"


def _make_client(config: SingleConfig) -> httpx2.AsyncClient:
    import httpx2  # noqa: PLC0415 - comes with lightkube
    from lightkube.config import client_adapter  # noqa: PLC0415 - an extra
    from lightkube.config.models import User  # noqa: PLC0415 - as above

    from inferencepool.runtime.kubernetes._credentials import make_credentials  # noqa: PLC0415 - as above

    try:
        return httpx2.AsyncClient(
            base_url=config.cluster.server,
            verify=client_adapter.verify_cluster(config.cluster, config.user or User(), config.abs_file),
            auth=make_credentials(config.user),
            headers=[("accept", _JSON), *getattr(config.user, "impersonation", ())],
            timeout=httpx2.Timeout(_ANSWER, connect=_CONNECT),
        )
    except Exception as error:  # noqa: BLE001 - certificates and keys can be wrong in ways that nobody can list
        # Other errors may show what they do not understand.
        told = isinstance(error, OSError | ConfigurationError)
        reason = f"{type(error).__name__}: {error}" if told else type(error).__name__
        message = f"kubeconfig: context {config.context_name}: cannot be used: {reason}"
        raise ConfigurationError(message) from None


async def _check(what: str, response: httpx2.Response) -> None:
    """Refuse an answer that is not what was asked for."""
    if not response.is_success:
        body, _ = await _read(response, _MAX_REFUSAL)
        raise _refusal(what, response, body)
    kind = response.headers.get("content-type", _JSON)
    if kind.partition(";")[0].strip().lower() != _JSON:
        message = f"{what}: the answer is {kind[:_SHOWN]!r}, not {_JSON}"
        raise ApiServerError(message)


async def _read(response: httpx2.Response, limit: int) -> tuple[bytes, bool]:
    """Read a body up to *limit* bytes, and whether that is all of it."""
    pieces: list[bytes] = []
    size = 0
    # It unpacks a MiB at a time.
    async for data in response.aiter_bytes():
        pieces.append(data[: limit - size])
        size += len(data)
        if size > limit:
            return b"".join(pieces), False
    return b"".join(pieces), True


def _keep_alive(response: httpx2.Response) -> None:
    """Have the system look after a connection on which nothing may be sent for a minute."""
    stream = response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if connection is not None:
        # A peer that is gone without a word is noticed after 15 + 3 * 5 seconds, also where nothing is sent.
        keep_alive(connection, idle=15, interval=5, probes=3)


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Tell whatever goes wrong while asking as an `ApiServerError`, which has no cause: that may show a header."""
    import httpx2  # noqa: PLC0415 - comes with lightkube

    try:
        yield
    except ApiServerError:
        raise
    except httpx2.LocalProtocolError as error:
        message = f"{what}: {type(error).__name__}: the request cannot be sent"
    except httpx2.HTTPError as error:
        message = _reason(what, error)
    except ConfigurationError as error:
        # A token file that is gone, or a plugin that fails or answers something else.
        message = _reason(f"{what}: no credentials", error)
    except OSError as error:
        message = _reason(what, error)
    except (LookupError, ValueError, TypeError) as error:
        message = f"{what}: {type(error).__name__}"
    else:
        return
    raise ApiServerError(message) from None


def _reason(what: str, error: Exception) -> str:
    text = str(error)[:_SHOWN]
    return f"{what}: {type(error).__name__}: {text}" if text else f"{what}: {type(error).__name__}"


def _refusal(what: str, response: httpx2.Response, body: bytes) -> ApiServerError:
    """Make an error of an answer that is not 2xx, with what the server says."""
    try:
        said = json.loads(body)["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        said = body[:_SHOWN].decode(errors="replace").strip()
    # The phrase is for people, and servers may leave it out.
    status = f"{response.status_code} {http.client.responses.get(response.status_code, '')}".rstrip()
    message = f"{what}: {status}: {str(said)[:_SHOWN]}"
    return ApiServerError(message, status=response.status_code, retry_after=_seconds(response.headers))


def _seconds(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    # A date is allowed, too; API servers send none.
    return float(text) if text.isascii() and text.isdigit() and len(text) <= len("3600000") else None
