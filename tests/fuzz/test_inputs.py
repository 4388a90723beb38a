"""No hostile input leads to a wrong answer, a crash or more than one line on stderr."""

from __future__ import annotations

from tests.fuzz.core import CHILD_MEMORY_BYTES, describe, run


def test_inputs() -> None:
    results = run("inputs", numbers=range(300), seed=0, workers=1, memory_bytes=CHILD_MEMORY_BYTES)
    lines, defects = describe(results)
    assert defects == 0, "\n".join(lines)
    assert {result.verdict.outcome for result in results} == {"answered", "refused"}
