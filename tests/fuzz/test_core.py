"""The core of the fuzzing reports every outcome of a case, even if the process of the case dies."""

from __future__ import annotations

from tests.fuzz.core import CHILD_MEMORY_BYTES, describe, run

NOTES = {
    "wrong end": "refused instead of answered: a line",
    "exception": "ZeroDivisionError",
    "no memory": "MemoryError",
}


def test_every_end_of_a_case_is_counted_and_reproduced_by_its_number() -> None:
    results = run("_toy", numbers=range(40), seed=1, workers=2, memory_bytes=CHILD_MEMORY_BYTES)
    assert [result.number for result in results] == list(range(40))
    for result in results:
        if not result.what:
            assert "the process ended with code -6" in result.verdict.note
        elif result.what in NOTES:
            assert result.verdict.outcome == "defect"
            assert NOTES[result.what] in result.verdict.note
        else:
            assert result.verdict.outcome == result.what
    assert {result.what for result in results} == {"answered", "refused", "", *NOTES}
    lines, defects = describe(results)
    assert defects == sum(result.verdict.outcome == "defect" for result in results)
    assert lines[-1].startswith("40 cases: ")
    assert lines[-1].endswith(f" {defects} defects")
    (again,) = run(
        "_toy", numbers=[results[7].number], seed=1, workers=1, memory_bytes=CHILD_MEMORY_BYTES
    )
    assert (again.what, again.verdict) == (results[7].what, results[7].verdict)
