"""What the page says: every score of metrics.json, as it stands there, and every failed case."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from evaluation.report.numbers import measure, write
from evaluation.report.page import Sources, write_report
from evaluation.running.score import score_run
from evaluation.schema import Rules, SegmentationMetrics, write_metrics
from shared.errors import InputError
from tests.evaluation.report.conftest import Reported
from tests.evaluation.report.made import FAILED
from tests.evaluation.submission import Submission

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Numbers, images, sections and text of a page; refuses tags that are not closed in order."""

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
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if given.get("id"):
            self.identifiers.append(str(given["id"]))
        if tag == "data":
            self.numbers.append((str(given["data-path"]), str(given["value"]), ""))
        elif tag == "img":
            self.images.append(given)
        elif tag == "section":
            self.sections.append(str(given["id"]))
        elif tag == "a":
            self.links.append(str(given["href"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "data":
            path, value, _ = self.numbers[-1]
            self.numbers[-1] = (path, value, data)


@pytest.fixture(scope="module")
def page(reported: Reported) -> Page:
    return Page(reported.page.read_text(encoding="utf-8"))


def look_up(run: Path, path: str) -> Any:
    """Return what stands in a task's metrics.json at a path of the page."""
    task, *keys = (key.replace("~1", "/") for key in path.split("/"))
    found = json.loads((run / task / "metrics.json").read_bytes())
    for key in keys:
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


def test_every_number_is_that_of_metrics_json(reported: Reported, page: Page) -> None:
    assert len(page.numbers) > 150
    for path, value, text in page.numbers:
        found = look_up(reported.run, path)
        if found is None:
            assert (value, text) == ("", "–")
            continue
        assert float(value) == found
        digits = len(text.partition(".")[2])
        assert text == write(found, digits), path


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


def test_each_section_is_there_and_linked(page: Page) -> None:
    assert page.sections == ["summary", "segmentation", "survival", "hpv", "failures", "method"]
    assert [link.removeprefix("#") for link in page.links] == page.sections
    assert not page.open
    assert len(page.identifiers) == len(set(page.identifiers))


def test_failed_cases_are_named_with_their_reason(reported: Reported, page: Page) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", reported.page.read_text().split('id="failures"')[1])
    failed = [re.sub(r"<[^>]*>", "|", row) for row in rows[1:]]
    assert len(failed) == sum(metrics.failed for metrics in reported.metrics.values()) == 2
    assert FAILED in failed[0]
    assert "expected a &lt;b&gt;PET&lt;/b&gt;, found none" in failed[0]


def test_every_image_has_words_and_needs_no_file(reported: Reported, page: Page) -> None:
    assert len(page.images) >= 10
    for image in page.images:
        assert len(image["alt"] or "") > 15
        assert (image["src"] or "").startswith("data:image/")
    text = reported.page.read_text()
    outside = re.sub(r"base64,[A-Za-z0-9+/=]*", "", text)
    assert "http://" not in outside
    assert "https://" not in outside
    assert "<script" not in outside
    assert "A &lt;made&gt; run" in outside
    assert "NOTICE: made for a test." in page.text


def test_the_figures_are_kept_as_png(reported: Reported) -> None:
    names = {path.name for path in (reported.out / "figures").iterdir()}
    charts = {"task1_dice_by_volume", "task1_segmentation_groups", "task2_survival",
              "task2_survival_groups", "task3_calibration", "task3_hpv_groups",
              "task3_roc"}  # fmt: skip
    assert {f"{chart}.png" for chart in charts} <= names
    assert sum(name.endswith("_projections.png") for name in names) == 2
    for path in (reported.out / "figures").iterdir():
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_page_is_the_same_when_made_again(reported: Reported, tmp_path: Path) -> None:
    sources = Sources(reported.run, None, reported.run / "ground_truth")
    first, again = (write_report(sources, tmp_path / name, "x", 0) for name in "ab")
    assert first.read_bytes() == again.read_bytes()


def test_cases_that_are_elsewhere_are_named_and_cost_only_their_pictures(
    reported: Reported, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for task in ("task1_segmentation",):
        shutil.copytree(reported.run / task, run / task)
    written = write_report(Sources(run, tmp_path, run / "nowhere"), tmp_path / "out", "x", 1)
    page = Page(written.read_text())
    assert "No picture: expected patients.csv" in page.text
    assert page.sections == ["summary", "segmentation", "failures", "method"]
    truth = reported.run / "ground_truth"
    written = write_report(Sources(run, tmp_path, truth), tmp_path / "out", "x", 1)
    assert "No picture: no_primary: expected exactly one image" in Page(written.read_text()).text


def test_cases_of_no_known_centre_and_field_of_view_have_no_groups(tmp_path: Path) -> None:
    run = tmp_path / "run"
    unknown = Submission(tmp_path / "made")
    for index in range(4):
        unknown.add_truth(f"case{index}", HPV_Status=index % 2)
        unknown.add_value(f"case{index}", "hpv", bool(index % 2))
    metrics = unknown.hpv()
    assert not any(metrics.groups.values())
    write_metrics(run / "task3_hpv" / "metrics.json", metrics)
    written = write_report(Sources(run, None, unknown.truth), tmp_path / "out", "x", 1)
    page = Page(written.read_text())
    assert page.sections == ["summary", "hpv", "failures", "method"]
    assert "By centre" not in page.text


def test_errors_beyond_the_pictured_ones_are_named(reported: Reported, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(reported.run / "task1_segmentation", run / "task1_segmentation")
    for result in reported.metrics["task1_segmentation"].results:
        for path in (run / "task1_segmentation" / str(result.pk)).rglob("output.mha"):
            found = sitk.ReadImage(str(path))
            for index in range(6):  # cubes of 3 to 8 voxels, in the corner
                size = 3 + index
                found[0:size, 0:size, 10 * index : 10 * index + size] = 2
            sitk.WriteImage(found, str(path))
    truth = reported.run / "ground_truth"
    score_run(run, truth, workers=1, rules=Rules(bootstrap_samples=5))
    written = write_report(Sources(run, None, truth), tmp_path / "out", "x", 1)
    captions = [" ".join(words.split()) for words in re.findall(
        r"Not pictured: (.*?)\.\s*</figcaption>", written.read_text(), re.DOTALL)]  # fmt: skip
    assert len(captions) == 2
    for caption in captions:
        assert caption.count("false node") >= 2
        assert re.fullmatch(r"([a-z ]+, \d+\.\d\d ml(; |$))+", caption), caption


def test_a_run_that_was_not_scored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="evaluation score` first"):
        write_report(Sources(tmp_path, None, tmp_path), tmp_path / "out", "x", 1)


@pytest.mark.parametrize(
    ("score", "name", "better"),
    [
        ("gtvp_dice", "GTVp mean DSC", "higher"),
        ("gtvn_hd95_mm", "GTVn HD95, mm", "lower"),
        ("c_index", "C-index", "higher"),
        ("sensitivity", "Sensitivity", "higher"),
        ("gtvn_sensitivity", "GTVn lesion sensitivity", "higher"),
        ("auc_3_years", "auc 3 years", "higher"),
    ],
)
def test_scores_have_names(score: str, name: str, better: str) -> None:
    assert (measure(score).name, measure(score).better) == (name, better)
