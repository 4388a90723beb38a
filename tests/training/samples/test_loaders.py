"""Loaders that fit the shared memory of a machine."""

from __future__ import annotations

import pytest

from training.samples import loaders
from training.samples.loaders import Loading


@pytest.mark.parametrize(
    ("workers", "free", "expected"),
    [
        (0, 0, None),
        (3, 8 * 100, 2),  # 3 * 2 batches in advance, and 2 in use
        (3, 8 * 100 - 1, 1),
        (3, 0, 1),
    ],
)
def test_batches_in_advance_follow_from_free_shared_memory(
    monkeypatch: pytest.MonkeyPatch, workers: int, free: int, expected: int | None
) -> None:
    monkeypatch.setattr(loaders, "free_shared_memory", lambda: free)
    assert Loading(workers=workers).prefetch_factor(100) == expected


def test_processes_of_a_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "free_shared_memory", lambda: 8 * 100)
    assert Loading(workers=3, processes=2).prefetch_factor(100) == 1
    assert Loading(workers=3, processes=2).shared_memory_bytes(100) == 2 * 5 * 100
    assert Loading(workers=0, processes=2).shared_memory_bytes(100) == 0


@pytest.mark.parametrize(("shared", "memory"), [(5, 9), (9, 5)])
def test_shared_memory_takes_up_memory(
    monkeypatch: pytest.MonkeyPatch, shared: int, memory: int
) -> None:
    monkeypatch.setattr(loaders, "free_shared_memory_bytes", lambda: shared)
    monkeypatch.setattr(loaders, "available_memory_bytes", lambda: memory)
    assert loaders.free_shared_memory() == 5
