"""How long viewer pages take and how large they are: `python -m tests.benchmarks.viewer`.

The command writes each sample case as a single file, as `python -m evaluation view` does. It also
writes the pages of a cohort, as in a report, by repeating the sample cases. It opens the pages from
disk in Chromium, with WebGL in software, and writes those of the cohort twice to compare the bytes.
It fails if a page of the cohort takes more than 3 s to open, if 100 such pages need 1 GB or more,
or if the bytes differ.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from evaluation.images import read_labels
from evaluation.report.viewer.niivue import read_niivue
from evaluation.report.viewer.page import NIIVUE_FILE, ViewedCase, render_case
from evaluation.running.case_folders import CaseFolder, find_cases
from evaluation.scoring_rules import ScoringRules
from evaluation.tasks.masks import read_mask
from shared.editions import CURRENT
from shared.geometry import Grid
from shared.grand_challenge.inputs import read_case
from tests.evaluation.report.chromium import open_page, start_chromium

ROOT: Final = Path(__file__).parents[2]
MAX_OPEN_S: Final = 3.0
MAX_GB_PER_100: Final = 1.0
POLL_S: Final = 0.02
PATIENCE_S: Final = 60.0


def read_viewed(case: CaseFolder) -> ViewedCase:
    """Return a sample case with the expected output of Task 1."""
    images = read_case(case.input, CURRENT)
    output = ROOT / CURRENT.algorithm("segmentation").name / "test" / case.name
    return ViewedCase(
        name=case.name,
        case=images,
        prediction=read_mask(output, CURRENT, Grid.of(images.ct_hu)),
        truth=None if case.truth is None else read_labels(case.truth),
        rules=ScoringRules(),
    )


def measure_opening(pages: list[Path]) -> list[float]:
    """Return how many seconds each page takes until it can be used."""
    browser = start_chromium()
    seconds = []
    for page in pages:
        start = time.perf_counter()
        open_page(browser, page)
        while not browser.execute_script("return Boolean(window.viewer)"):
            if time.perf_counter() - start > PATIENCE_S:
                raise TimeoutError(f"{page} is not ready after {PATIENCE_S} s")
            time.sleep(POLL_S)
        seconds.append(time.perf_counter() - start)
    browser.quit()
    return seconds


def main(
    cohort: Annotated[int, typer.Option(min=1, help="Number of cases in the cohort.")] = 12,
) -> None:
    """Measure single files and a cohort."""
    cases = find_cases(ROOT / "tests" / "cases")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / NIIVUE_FILE).write_text(read_niivue(), encoding="utf-8")
        single = []
        for case in cases:
            start = time.perf_counter()
            text = render_case(read_viewed(case), niivue=read_niivue())
            page = folder / f"single_{case.name}.html"
            page.write_text(text, encoding="utf-8")
            seconds = time.perf_counter() - start
            single.append(page)
            print(f"single file, {case.name}: {seconds:.1f} s, {page.stat().st_size / 1e6:.1f} MB")
        digests: dict[str, set[str]] = {}
        pages = []
        start = time.perf_counter()
        for index in range(2 * cohort):
            case = cases[index % cohort % len(cases)]
            page = folder / f"{index % cohort}.html"
            page.write_text(render_case(read_viewed(case), niivue=None), encoding="utf-8")
            digests.setdefault(page.name, set()).add(hashlib.sha256(page.read_bytes()).hexdigest())
            pages.append(page)
        seconds = (time.perf_counter() - start) / (2 * cohort)
        size_gb = sum(page.stat().st_size for page in pages[:cohort]) / cohort * 100 / 1e9
        print(f"cohort of {cohort}: {seconds:.1f} s per case, {size_gb:.2f} GB per 100 cases")
        opening = measure_opening([*single, *pages[: len(cases)]])
        print("to open, single files: " + ", ".join(f"{s:.1f} s" for s in opening[: len(cases)]))
        print("to open, cohort: " + ", ".join(f"{s:.1f} s" for s in opening[len(cases) :]))
    same = all(len(values) == 1 for values in digests.values())
    print(f"bytes the second time: {'equal' if same else 'different'}")
    if not same or size_gb >= MAX_GB_PER_100 or max(opening[len(cases) :]) > MAX_OPEN_S:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
