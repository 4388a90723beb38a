"""The memory of a GPU is read from `nvidia-smi`, which is replaced here by a script."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from evaluation.running.engines import gpu_memory
from evaluation.running.engines.gpu_memory import watched_gpu_memory


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder; `nvidia-smi` prints what the file `used` in it contains."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$*" >"{tmp_path}/asked"\ncat "{tmp_path}/used"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(gpu_memory, "INTERVAL_S", 0.01)
    return tmp_path


def _watch(answers: Path, *texts: str) -> float | None:
    with watched_gpu_memory(is_used=True) as memory:
        for text in texts:
            (answers / "asked").unlink(missing_ok=True)
            (answers / "used").write_text(text)
            for _ in range(2):  # the first answer may be older than the text
                end = time.monotonic() + 10
                while not (answers / "asked").exists() and time.monotonic() < end:
                    time.sleep(0.005)
                (answers / "asked").unlink()
    return memory.peak_gb


def test_peak_is_the_largest_sum_over_the_gpus(answers: Path) -> None:
    # 1000 MiB are 1.048576 GB.
    assert _watch(answers, "100\n", "600\n400\n", "0\n") == pytest.approx(1.048576)


@pytest.mark.parametrize("text", ["", "No devices were found\n", "[N/A]\n"])
def test_memory_that_cannot_be_read_is_unknown(answers: Path, text: str) -> None:
    assert _watch(answers, text) is None


def test_without_a_gpu_nothing_is_asked(answers: Path) -> None:
    with watched_gpu_memory(is_used=False) as memory:
        time.sleep(0.05)
    assert memory.peak_gb is None
    assert not (answers / "asked").exists()
