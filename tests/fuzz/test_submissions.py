"""A hostile output changes no result but its own, and never scores like the truth."""

from __future__ import annotations

from tests.fuzz.core import CHILD_MEMORY_BYTES, describe, run


def test_submissions() -> None:
    results = run(
        "submissions", numbers=range(60), seed=0, workers=1, memory_bytes=CHILD_MEMORY_BYTES
    )
    lines, defects = describe(results)
    assert defects == 0, "\n".join(lines)
    assert {result.verdict.outcome for result in results} == {"answered", "refused"}
