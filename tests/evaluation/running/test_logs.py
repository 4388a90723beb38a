"""Values read from an algorithm's log."""

from __future__ import annotations

import pytest

from evaluation.running.logs import cpu_seconds, doubts, hpv_probability, last_line, peak_memory_gb

LOG = """models from /opt/app/model
HPV: logit -1.250, probability 0.223, threshold 0.500
done in 1.2 s, CPU time 2.3 s, peak memory 0.85 GB
"""


def test_memory_is_read_from_the_last_line() -> None:
    assert peak_memory_gb(LOG) == 0.85
    assert peak_memory_gb(LOG + "bye\n") is None
    assert peak_memory_gb("") is None


def test_cpu_time_is_in_the_last_line() -> None:
    assert cpu_seconds(LOG) == 2.3
    assert cpu_seconds(LOG + "bye\n") is None
    assert cpu_seconds("") is None


@pytest.mark.parametrize(
    ("log", "probability"),
    [
        (LOG, 0.223),
        ("HPV: logit 9.000, probability 1.000, threshold 0.5", 1.0),
        ("the card says: probability 0.5", None),
        ("", None),
    ],
)
def test_hpv_probability_is_read_from_the_log(log: str, probability: float | None) -> None:
    assert hpv_probability(log) == probability


def test_doubts_are_the_lines_that_begin_with_the_word() -> None:
    first, second = "metal: 0.7 ml near a lesion", "field of view: no skull is in view"
    log = f"NOTICE: no doubt: here\ndoubt: {first}\nregion: placed\ndoubt: {second}\n{LOG}"
    assert doubts(log) == [first, second]
    assert doubts(LOG) == []


def test_last_line_is_not_blank() -> None:
    assert last_line("a\n b \n\n") == "b"
    assert last_line(" \n") is None
