from __future__ import annotations

from collections.abc import Iterator

import pytest

from inferencepool.lab.apiserver import ApiServer
from tests.lab.apiserver.client import Client


@pytest.fixture(name="server")
def _server() -> Iterator[ApiServer]:
    """Give a server that runs, over plain HTTP."""
    with ApiServer(initializing=0, seed=1) as server:
        yield server


@pytest.fixture(name="client")
def _client(server: ApiServer) -> Client:
    """Give a client that may do everything."""
    return Client(server)
