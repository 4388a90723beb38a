"""Formats scores for the page; each number keeps the place in `metrics.json` that it comes from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Final, Literal, TypeAlias

from markupsafe import Markup

from evaluation.schema import Estimate

ABSENT: Final = "–"
"""Text for a score that cannot be computed."""

Better: TypeAlias = Literal["higher", "lower"]
KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the results folder to a number: the algorithm, then keys of its metrics.json."""


@dataclass(frozen=True)
class Measure:
    """The name of a score and the way to show it.

    Attributes
    ----------
    name : the name in words.
    better : whether higher or lower values are better.
    digits : number of decimals.
    scale : the lowest and the highest possible value; None if there is no highest value.
    """

    name: str
    _: KW_ONLY
    better: Better = "higher"
    digits: int = 3
    scale: tuple[float, float] | None = (0.0, 1.0)


@dataclass(frozen=True)
class Number:
    """A number on the page.

    Attributes
    ----------
    path : where the number comes from.
    value : the number in the file; None if the score cannot be computed.
    text : the number as the page shows it.
    """

    path: KeyPath
    value: float | None
    text: str


@dataclass(frozen=True, kw_only=True)
class ScoreText:
    """A score with its interval, as the page shows it."""

    value: Number
    low: Number
    high: Number
    patients: int

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval."""
        return self.low.value is not None and self.high.value is not None


def format_score(estimate: Estimate, path: KeyPath, digits: int) -> ScoreText:
    """Return a score as the page shows it; `path` leads to the estimate."""
    value, low, high = (
        Number((*path, name), number, format_number(number, digits))
        for name, number in (
            ("value", estimate.value),
            ("low", estimate.low),
            ("high", estimate.high),
        )
    )
    return ScoreText(value=value, low=low, high=high, patients=estimate.patients)


def format_number(value: float | None, digits: int) -> str:
    """Return a number with fixed decimals and a true minus sign; a dash for None."""
    return ABSENT if value is None else f"{value:.{digits}f}".replace("-", "−")


def format_p_value(p: float) -> str:
    """Return a p-value as papers write it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def range_name(name: str) -> str:
    """Return the name of a range with an en dash: "1-5" becomes "1–5"."""
    return re.sub(r"(\d)-(\d)", r"\1–\2", name)


def natural_list(words: Sequence[str]) -> str:
    """Join words into a list such as "a, b and c"."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def number_tag(number: Number) -> Markup:
    """Return a number as HTML that states where the number comes from."""
    return Markup('<data value="{}" data-path="{}">{}</data>').format(
        "" if number.value is None else repr(number.value),
        "/".join(str(key).replace("/", "~1") for key in number.path),
        number.text,
    )
