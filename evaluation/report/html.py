"""HTML pages that need no other file: templates, and figures embedded in the page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.report.figure_style import FigureFiles

TEMPLATES: Final = Path(__file__).parent
"""The folder of the report's templates and of the style that all pages share."""
PIXELS_PER_INCH: Final = 100
"""At this scale the 10-point font of the charts is 14 pixels high; the page's own font has 16."""


def render_page(
    template: str,
    *,
    values: dict[str, object],
    functions: dict[str, Callable[..., object]],
    folders: Sequence[Path] = (),
) -> str:
    """Return a page made from a template.

    Parameters
    ----------
    values : what the template shows.
    functions : what it can call, in addition to `figure`.
    folders : folders of further templates, searched before those of the report.
    """
    environment = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals = {"figure": figure_tag, **functions}
    return environment.get_template(template).render(values)


def figure_tag(figure: FigureFiles) -> Markup:
    """Return a figure as HTML that needs no other file; charts keep their font size."""
    if figure.svg is None:
        kind, content, style, name = "png", figure.png, "", "voxels"
    else:
        kind, content, name = "svg+xml", figure.svg, "chart"
        style = f"width: {figure.width_inches * PIXELS_PER_INCH:.0f}px"
    encoded = base64.b64encode(content).decode("ascii")
    return Markup('<img class="{}" style="{}" alt="{}" src="data:image/{};base64,{}">').format(
        name, style, figure.alt, kind, encoded
    )
