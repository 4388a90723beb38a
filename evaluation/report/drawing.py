"""What all figures share: type, colours, and how a figure becomes bytes.

Colours are Okabe and Ito's, which people with colour vision deficiency tell apart; none stands
without another sign (line style, marker, words). A figure is a function of its data alone: no date,
no random identifier.
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
    # Outlines instead of text: the page looks the same where a font is missing.
    "svg.fonttype": "path",
}
PNG_DPI: Final = 160


@dataclass(frozen=True)
class Drawn:
    """A figure as files.

    Attributes
    ----------
    name : of its file, without suffix.
    alt : what it shows, for who cannot see it.
    svg : None for pictures of voxels.
    width_inches : as it was drawn, where its type has the size that was meant.
    """

    name: str
    alt: str
    png: bytes
    svg: bytes | None
    width_inches: float


def draw(name: str, alt: str, make: Callable[[], Figure], vector: bool = True) -> Drawn:
    """Return a figure as files; it is made in the common style."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE, "backend": "agg"}):
        figure = make()
        png, svg = io.BytesIO(), io.BytesIO()
        face = figure.get_facecolor()
        dpi = PNG_DPI if vector else figure.dpi
        figure.savefig(png, format="png", dpi=dpi, facecolor=face, metadata={"Software": None})
        if vector:
            figure.savefig(svg, format="svg", metadata={"Date": None}, facecolor=face)
    width = float(figure.get_figwidth())
    return Drawn(name, alt, png.getvalue(), svg.getvalue() if vector else None, width)
