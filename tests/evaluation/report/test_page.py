"""The page shows every score of metrics.json unchanged, and every failed case."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from evaluation.metrics_io import write_metrics
from evaluation.report.numbers import format_number
from evaluation.report.page import write_report
from evaluation.report.sections import section_of
from evaluation.report.task_section import Sources
from evaluation.running.score_command import score_results
from evaluation.scoring_rules import ScoringRules
from evaluation.tasks.segmentation import SegmentationMetrics
from shared.errors import InputError
from shared.tasks import TaskName
from tests.evaluation.report.conftest import Reported
from tests.evaluation.report.example import FAILED
from tests.evaluation.submission import Submission

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Numbers, images, sections and text of a page; rejects tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: list[tuple[str, str, str]] = []
        self.images: list[dict[str, str | None]] = []
        self.sections: list[str] = []
        self.links: list[str] = []
        self.identifiers: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if values.get("id"):
            self.identifiers.append(str(values["id"]))
        if tag == "data":
            self.numbers.append((str(values["data-path"]), str(values["value"]), ""))
        elif tag == "img":
            self.images.append(values)
        elif tag == "section":
            self.sections.append(str(values["id"]))
        elif tag == "a":
            self.links.append(str(values["href"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "data":
            path, value, _ = self.numbers[-1]
            self.numbers[-1] = (path, value, data)


def write(
    results: Path, out: Path, truth: Path, *, cases: Path | None = None, count: int = 1
) -> Path:
    sources = Sources(results=results, cases=cases, truth=truth)
    return write_report(sources, out, title="x", count=count)


@pytest.fixture(scope="module")
def page(reported: Reported) -> Page:
    return Page(reported.page.read_text(encoding="utf-8"))


def look_up(results: Path, path: str) -> Any:
    """Return the value of metrics.json at a path of the page."""
    task, *keys = (key.replace("~1", "/") for key in path.split("/"))
    value = json.loads((results / task / "metrics.json").read_bytes())
    for key in keys:
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def test_every_number_equals_metrics_json(reported: Reported, page: Page) -> None:
    assert len(page.numbers) > 150
    for path, value, text in page.numbers:
        expected = look_up(reported.results, path)
        if expected is None:
            assert (value, text) == ("", "–")
            continue
        assert float(value) == expected
        digits = len(text.partition(".")[2])
        assert text == format_number(expected, digits), path


def test_every_score_is_on_the_page(reported: Reported, page: Page) -> None:
    shown = {path for path, _, _ in page.numbers}
    for task, metrics in reported.metrics.items():
        for score in metrics.aggregates:
            assert f"{task}/aggregates/{score}/value" in shown
        for score in metrics.ranked:
            for kind, groups in metrics.groups.items():
                for group in groups:
                    assert f"{task}/groups/{kind}/{group}/aggregates/{score}/value" in shown
        if isinstance(metrics, SegmentationMetrics):
            for label, lesions in metrics.lesions_by_volume_ml.items():
                for volume in lesions:
                    path = f"{task}/lesions_by_volume_ml/{label}/{volume}"
                    assert {f"{path}/lesions", f"{path}/sensitivity/value"} <= shown
        for score, rules in metrics.alternatives.items():
            for rule in rules:
                assert f"{task}/alternatives/{score}/{rule.replace('/', '~1')}" in shown


def test_sections_exist_and_are_linked(page: Page) -> None:
    assert page.sections == ["summary", "segmentation", "survival", "hpv", "failures", "method"]
    assert page.links == ["cases.html", *(f"#{section}" for section in page.sections)]
    assert not page.open
    assert len(page.identifiers) == len(set(page.identifiers))


def test_failed_cases_are_listed_with_their_reason(reported: Reported, page: Page) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", reported.page.read_text().split('id="failures"')[1])
    failed = [re.sub(r"<[^>]*>", "|", row) for row in rows[1:]]
    assert len(failed) == sum(metrics.failed for metrics in reported.metrics.values()) == 2
    assert FAILED in failed[0]
    assert "expected a &lt;b&gt;PET&lt;/b&gt;, found none" in failed[0]


def test_doubts_of_the_logs_are_listed_once_for_each_case(
    reported: Reported, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(reported.results / "task3_hpv", run / "task3_hpv")
    case = reported.metrics["task3_hpv"].results[0]
    log = run / "task3_hpv" / str(case.pk) / "stdout.txt"
    log.write_text("doubt: metal: <b> near a lesion\n" * 2 + log.read_text())
    written = write(run, tmp_path / "out", reported.results / "ground_truth", count=0)
    page = Page(written.read_text())
    assert page.sections == ["summary", "hpv", "doubts", "failures", "method"]
    assert page.links == ["cases.html", *(f"#{section}" for section in page.sections)]
    row = f"<tr><td>{case.case_id}</td><td>metal: &lt;b&gt; near a lesion</td></tr>"
    assert written.read_text().count(row) == 1


def test_every_image_has_a_description_and_needs_no_file(reported: Reported, page: Page) -> None:
    assert len(page.images) >= 10
    for image in page.images:
        assert len(image["alt"] or "") > 15
        assert (image["src"] or "").startswith("data:image/")
    text = reported.page.read_text()
    outside = re.sub(r"base64,[A-Za-z0-9+/=]*", "", text)
    assert "http://" not in outside
    assert "https://" not in outside
    assert "<script" not in outside
    assert "An &lt;example&gt;" in outside
    assert "NOTICE: written for a test." in page.text


def test_figures_are_written_as_png(reported: Reported) -> None:
    names = {path.name for path in (reported.out / "figures").iterdir()}
    charts = {"segmentation_dice_by_volume", "segmentation_groups", "survival_curves",
              "survival_groups", "hpv_calibration", "hpv_groups", "hpv_roc"}  # fmt: skip
    assert {f"{chart}.png" for chart in charts} <= names
    assert sum(name.endswith("_projections.png") for name in names) == 2
    for path in (reported.out / "figures").iterdir():
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_page_has_the_same_bytes_when_written_again(reported: Reported, tmp_path: Path) -> None:
    first, again = (
        write(reported.results, tmp_path / name, reported.results / "ground_truth", count=0)
        for name in "ab"
    )
    assert first.read_bytes() == again.read_bytes()


def test_missing_cases_are_named_and_cost_only_their_pictures(
    reported: Reported, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for task in ("task1_segmentation",):
        shutil.copytree(reported.results / task, run / task)
    written = write(run, tmp_path / "out", run / "nowhere", cases=tmp_path)
    page = Page(written.read_text())
    assert "No picture: expected patients.csv" in page.text
    assert page.sections == ["summary", "segmentation", "failures", "method"]
    truth = reported.results / "ground_truth"
    written = write(run, tmp_path / "out", truth, cases=tmp_path)
    assert "No picture: no_primary: expected exactly one image" in Page(written.read_text()).text


def test_cases_with_unknown_centre_and_field_of_view_have_no_groups(tmp_path: Path) -> None:
    run = tmp_path / "run"
    unknown = Submission(tmp_path / "made")
    for index in range(4):
        unknown.add_truth(f"case{index}", HPV_Status=index % 2)
        unknown.add_value(f"case{index}", "hpv", bool(index % 2))
    metrics = unknown.hpv()
    assert not any(metrics.groups.values())
    write_metrics(run / "task3_hpv" / "metrics.json", metrics)
    written = write(run, tmp_path / "out", unknown.truth)
    page = Page(written.read_text())
    assert page.sections == ["summary", "hpv", "failures", "method"]
    assert "By centre" not in page.text


def test_errors_without_a_picture_are_named(reported: Reported, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(reported.results / "task1_segmentation", run / "task1_segmentation")
    for result in reported.metrics["task1_segmentation"].results:
        for path in (run / "task1_segmentation" / str(result.pk)).rglob("output.mha"):
            mask = sitk.ReadImage(str(path))
            for index in range(6):  # cubes with sides of 3 to 8 voxels, along an edge
                size = 3 + index
                mask[0:size, 0:size, 10 * index : 10 * index + size] = 2
            sitk.WriteImage(mask, str(path))
    truth = reported.results / "ground_truth"
    score_results(run, truth, workers=1, rules=ScoringRules(bootstrap_samples=5))
    written = write(run, tmp_path / "out", truth)
    captions = [" ".join(words.split()) for words in re.findall(
        r"Not pictured: (.*?)\.\s*</figcaption>", written.read_text(), re.DOTALL)]  # fmt: skip
    assert len(captions) == 2
    for caption in captions:
        assert caption.count("false node") >= 2
        assert re.fullmatch(r"([a-z ]+, \d+\.\d\d ml(; |$))+", caption), caption


def test_results_without_scores_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="evaluation score` first"):
        write(tmp_path, tmp_path / "out", tmp_path)


@pytest.mark.parametrize(
    ("task", "score", "name", "better"),
    [
        ("segmentation", "gtvp_dice", "GTVp mean DSC", "higher"),
        ("segmentation", "gtvn_hd95_mm", "GTVn HD95, mm", "lower"),
        ("segmentation", "gtvn_sensitivity", "GTVn lesion sensitivity", "higher"),
        ("survival", "c_index", "C-index", "higher"),
        ("survival", "auc_3_years", "auc 3 years", "higher"),
        ("hpv", "sensitivity", "Sensitivity", "higher"),
    ],
)
def test_scores_have_names(task: TaskName, score: str, name: str, better: str) -> None:
    measure = section_of(task).measure(score)
    assert (measure.name, measure.better) == (name, better)


def test_page_says_how_much_of_the_limits_the_cases_used(page: Page) -> None:
    text = " ".join(page.text.split())
    # Each case takes 1.25 s, 1.5 s of CPU time and 0.40 GB; 1 GiB are 1.074 GB. The text has no
    # spaces between cells.
    assert "Time600 s1.2 s1.2 s0 %" in text
    assert "Memory1.074 GB0.40 GB0.40 GB37 %" in text
    assert "CPU2 CPUs1.2 CPUs1.2 CPUs60 %" in text
    assert "What a case used of the platform's limits, in exec mode." in text
    assert "exec mode, 600 s, 1 GiB of memory, 2 CPUs, no GPU" in text
    # The time limit of Task 3 is 2 s; its first patients are named.
    assert "60 cases used half of the time limit or more: CHUM-000, " in text
    assert text.count("used half of the") == 1
