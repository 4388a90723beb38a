"""The fonts and colours of all figures, and `render`, which turns a figure into files.

The colours are those of Okabe and Ito, which people with colour vision deficiency can distinguish.
No meaning depends on colour alone: a line style, a marker or words repeat it. A figure depends only
on its data: it contains no date and no random identifier.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import matplotlib
from matplotlib.figure import Figure

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
VERMILION: Final = "#D55E00"
GREEN: Final = "#009E73"
INK: Final = "#1f2933"
PALE: Final = "#c9d1d9"

STYLE: Final[dict[Any, Any]] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#8a949e",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#e4e8ec",
    "legend.frameon": False,
    "svg.hashsalt": "hecktor",
    # Outlines instead of text: the page looks the same if a font is missing.
    "svg.fonttype": "path",
}
PNG_DPI: Final = 160


@dataclass(frozen=True, kw_only=True)
class FigureFiles:
    """A figure as files.

    Attributes
    ----------
    name : name of the file, without suffix.
    alt : what the figure shows, for people who cannot see it.
    svg : None for a picture of voxels, which has only a PNG.
    width_inches : width at which the fonts have their intended size.
    """

    name: str
    alt: str
    png: bytes
    svg: bytes | None
    width_inches: float


def render(name: str, alt: str, draw: Callable[[], Figure], *, vector: bool = True) -> FigureFiles:
    """Draw a figure in the common style and return it as files."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE, "backend": "agg"}):
        figure = draw()
        png, svg = io.BytesIO(), io.BytesIO()
        face = figure.get_facecolor()
        dpi = PNG_DPI if vector else figure.dpi
        figure.savefig(png, format="png", dpi=dpi, facecolor=face, metadata={"Software": None})
        if vector:
            figure.savefig(svg, format="svg", metadata={"Date": None}, facecolor=face)
    return FigureFiles(
        name=name,
        alt=alt,
        png=png.getvalue(),
        svg=svg.getvalue() if vector else None,
        width_inches=float(figure.get_figwidth()),
    )
