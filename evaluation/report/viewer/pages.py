"""Writes a viewer page for each case of a report, and the script that they share.

Each page contains one case, and the browser reads it only when the page is opened, so many cases do
not slow down the report. The pages are in a folder of their own next to the report.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tqdm import tqdm

from evaluation.images import read_grid, read_labels
from evaluation.report.case_files import CaseFiles
from evaluation.report.figure_style import FigureFiles, render
from evaluation.report.pictures import draw_thumbnail
from evaluation.report.viewer.niivue import read_niivue
from evaluation.report.viewer.page import NIIVUE_FILE, Link, ViewedCase, render_case
from evaluation.scoring_rules import ScoringRules
from evaluation.tasks.masks import read_mask
from evaluation.tasks.segmentation import SegmentationCase
from shared.editions import Edition
from shared.errors import HecktorError, InputError
from shared.grand_challenge.inputs import read_case

VIEWER: Final = "viewer"
"""The folder of the pages."""


@dataclass(frozen=True, kw_only=True)
class CasePage:
    """The viewer page of a case: its address, relative to the report, and a small picture."""

    address: str
    thumbnail: FigureFiles


@dataclass(frozen=True, kw_only=True)
class Viewers:
    """Writes the viewer pages of a report.

    Attributes
    ----------
    out : folder of the report.
    page : name of the report's page.
    chosen : names of the cases to write; None for all.
    """

    out: Path
    page: str
    chosen: Collection[str] | None = None

    def write(
        self,
        results: Sequence[SegmentationCase],
        files: Mapping[str, CaseFiles],
        *,
        rules: ScoringRules,
        edition: Edition,
    ) -> tuple[dict[str, CasePage], list[str]]:
        """Write the pages of the chosen cases, and the script that they share.

        Parameters
        ----------
        results : scores of the cases that have an answer.
        files : the files of each case, by name.

        Returns
        -------
        The page of each case, by name and in the order of the results; and the reasons why pages
        are missing.

        Raises
        ------
        InputError
            If a chosen case is not among the results, or NiiVue is not installed.
        """
        names = [result.case_id for result in results]
        if unknown := sorted(set(self.chosen or ()) - set(names)):
            raise InputError(
                f"expected names of cases with a mask for --view, found {', '.join(unknown)}; "
                f"there are {', '.join(sorted(names)) or 'none'}"
            )
        script = read_niivue()
        folder = self.out / VIEWER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NIIVUE_FILE).write_text(script, encoding="utf-8")
        pages: dict[str, CasePage] = {}
        problems = []
        link = Link(text="Report", address=f"../{quote(self.page)}#cases")
        chosen = [r for r in results if self.chosen is None or r.case_id in self.chosen]
        for result in tqdm(chosen, desc="viewer", unit="case", disable=None):
            name = result.case_id
            try:
                viewed = _read(result, files[name], rules=rules, edition=edition)
                text = render_case(viewed, niivue=None, link=link)
            except HecktorError as error:
                problems.append(f"{name}: {error}")
                continue
            (folder / f"{name}.html").write_text(text, encoding="utf-8")
            pages[name] = CasePage(
                address=f"{VIEWER}/{quote(name)}.html", thumbnail=_thumbnail(viewed)
            )
        return pages, problems


def _read(
    result: SegmentationCase, files: CaseFiles, *, rules: ScoringRules, edition: Edition
) -> ViewedCase:
    return ViewedCase(
        name=result.case_id,
        case=read_case(files.case_input, edition),
        prediction=read_mask(files.output, edition, read_grid(files.truth)),
        truth=read_labels(files.truth),
        rules=rules,
        facts=[
            *([result.centre] if result.centre else []),
            *(f"{label} DSC {scores.dice:.3f}" for label, scores in result.labels.items()),
        ],
    )


def _thumbnail(viewed: ViewedCase) -> FigureFiles:
    return render(
        f"{viewed.name}_thumbnail",
        f"Coronal PET projection of case {viewed.name} with the predicted outlines.",
        lambda: draw_thumbnail(viewed.scene, viewed.on_region(viewed.prediction)),
        vector=False,
    )
