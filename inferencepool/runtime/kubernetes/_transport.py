"""What a client must do for a cluster to be followed; any can."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

__all__ = ["KubernetesTransport", "KubernetesWriter"]


class KubernetesTransport(Protocol):
    """
    **Protocol:** asks an API server, with whatever address, TLS and credentials that takes.

    Errors may be of any kind: one with an attribute ``status`` that is a number tells the HTTP status, an
    `ApiServerError` also for how long the server wants to be left alone. Where a server refuses the credentials (401),
    ask once more with fresh ones, if there can be any; everything else is tried again by whoever asked. There is no
    need for limits of time: whoever asks cancels what takes too long.
    """

    async def get(self, path: str, params: Mapping[str, str]) -> bytes:
        """
        Give the body of the answer, whole and decompressed.

        Args:
            path: From the root of the server, such as ``/api/v1/namespaces/default/pods``.
            params: The query, not yet quoted.
        """

    def stream_lines(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """
        Give the body of the answer piece by piece as it arrives, cut anywhere, and stop where it ends in order.

        Where that is easy, give an empty piece first when the server has begun to answer. It shows that all is well
        before there is any news.
        """


class KubernetesWriter(Protocol):
    """**Protocol:** writes objects of an API server, as leases need; it raises what a `KubernetesTransport` raises."""

    async def create(self, path: str, document: Mapping[str, Any]) -> bytes:
        """Create *document* in the collection at *path* (POST), and give the object as the server has it then."""

    async def replace(self, path: str, document: Mapping[str, Any]) -> bytes:
        """
        Replace the object at *path* by *document* (PUT), and give it as the server has it then.

        The server refuses with status 409 if the object is not the one whose resource version *document* carries.
        """
