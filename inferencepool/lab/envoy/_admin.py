"""Envoy's admin interface, as far as it is needed here."""

from __future__ import annotations

import asyncio
import json
from http.client import HTTPConnection, HTTPException
from typing import Any, final
from urllib.parse import urlencode, urlsplit

import attrs

from inferencepool.model import join_host_port

__all__ = ["Admin"]

# Of one question, in seconds.
_TIMEOUT = 5.0
_OK = 200


@final
@attrs.frozen
class Admin:
    """
    Asks the admin interface of one Envoy; the questions run in threads, one connection each.

    Attributes:
        address: ``ip:port``, with brackets around IPv6.
    """

    address: str

    async def get(self, path: str, **query: str) -> tuple[int, str]:
        """
        Ask for *path*; give status and text.

        Raises:
            OSError: There is no answer.
        """
        target = f"{path}?{urlencode(query)}" if query else path
        return await asyncio.to_thread(self._get, target)

    async def state(self) -> str:
        """Tell the server's state, such as ``LIVE``; empty while there is no answer."""
        try:
            return (await self.get("/ready"))[1].strip()
        except OSError:
            return ""

    async def listeners(self) -> dict[str, str]:
        """Give the bound address of every listener by name, as ``ip:port``."""
        document = await self._read("/listeners", format="json")
        statuses = document.get("listener_statuses", [])
        return {status["name"]: _spell(status["local_address"]["socket_address"]) for status in statuses}

    async def stats(self, pattern: str = "") -> dict[str, int]:
        """
        Give counters and gauges by name.

        Args:
            pattern: Regular expression that a part of the name must match; empty for all.
        """
        query = {"format": "json"} | ({"filter": pattern} if pattern else {})
        document = await self._read("/stats", **query)
        # Histograms stand in an entry of their own, without a value.
        return {each["name"]: each["value"] for each in document["stats"] if isinstance(each.get("value"), int)}

    async def _read(self, path: str, **query: str) -> dict[str, Any]:
        status, text = await self.get(path, **query)
        if status != _OK:
            message = f"Envoy's admin interface answers {path} with {status}: {text[:200]}"
            raise OSError(message)
        document: dict[str, Any] = json.loads(text)
        return document

    def _get(self, target: str) -> tuple[int, str]:
        parts = urlsplit(f"//{self.address}")
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT)
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except HTTPException as error:
            message = f"Envoy's admin interface at {self.address}: {error!r}"
            raise OSError(message) from error
        finally:
            connection.close()


def _spell(address: dict[str, Any]) -> str:
    return join_host_port(address["address"], address["port_value"])
