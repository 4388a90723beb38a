"""An altered model folder is refused with one line, unless it is still valid."""

from __future__ import annotations

from tests.fuzz.core import CHILD_MEMORY_BYTES, describe, run


def test_models() -> None:
    results = run("models", numbers=range(60), seed=0, workers=1, memory_bytes=CHILD_MEMORY_BYTES)
    lines, defects = describe(results)
    assert defects == 0, "\n".join(lines)
    assert {result.verdict.outcome for result in results} == {"answered", "refused"}
