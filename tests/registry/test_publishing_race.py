"""What readers without a lock see while a snapshot is published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inferencepool.registry import EndpointRegistry
from inferencepool.registry._columns import Columns
from inferencepool.testing import make_pod, make_pool


def test_a_reader_never_finds_the_old_snapshot_for_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a publication there still is something to publish, so a reader waits for it."""
    registry = EndpointRegistry(make_pool())
    registry.upsert_pod(make_pod("a", ip="10.0.0.1"))
    seen: list[bool] = []
    publish: Callable[..., Any] = Columns.publish

    def watched(columns: Columns, *arguments: Any) -> Any:
        made = publish(columns, *arguments)
        # As a reader in another thread would find it here.
        seen.append(columns.dirty)
        return made

    monkeypatch.setattr(Columns, "publish", watched)
    assert 1 == len(registry.snapshot())
    assert [True] == seen
    generation = registry.snapshot().generation
    assert generation == registry.publish().generation
