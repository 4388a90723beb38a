"""Configurations: both are valid, and a slip of the pen is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import HecktorError
from shared.postprocessing.rules import Rules
from training import config
from training.config import CONFIGS_DIR, Configuration, load_configuration

NAMES = ("demo", "paper")


def test_there_are_the_two_configurations() -> None:
    assert {path.stem for path in CONFIGS_DIR.glob("*.toml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_windows_and_crops_fit_the_region_and_the_network(name: str) -> None:
    found = load_configuration(name)
    task1 = found.segmentation
    divisor = 2 ** (len(task1.filters) - 1)
    for size in (task1.window_zyx, task1.crop_zyx, found.hpv.window_zyx, found.survival.window_zyx):
        assert all(w <= s for w, s in zip(size, found.preparation.size_xyz[::-1], strict=True))
    for size in (task1.window_zyx, task1.crop_zyx, found.hpv.window_zyx):
        assert all(edge % divisor == 0 for edge in size)
    assert found.hpv.batch_size % 2 == 0
    assert task1.overlap < 1
    assert set(task1.min_component_mm3) <= {"GTVp", "GTVn"}


def test_paper_has_the_numbers_of_the_paper() -> None:
    paper = load_configuration("paper")
    assert paper.preparation.spacing_mm == 1
    assert paper.preparation.size_xyz == (288, 288, 288)
    assert paper.segmentation.crop_zyx == (192, 192, 192)
    assert paper.segmentation.min_component_mm3 == {"GTVp": 100, "GTVn": 100}
    tasks = (paper.segmentation, paper.survival, paper.hpv)
    assert [task.batch_size for task in tasks] == [2, 16, 4]
    for task in tasks:
        assert (task.epochs, task.learning_rate, task.cosine_decay) == (500, 1e-4, False)


def test_paper_averages_in_any_case_and_has_no_rules_of_its_own() -> None:
    task1 = load_configuration("paper").segmentation
    assert task1.averaging is not None
    assert task1.averaging.keep == "always"
    assert task1.rules == Rules()
    assert task1.mirror_axes == ()


def test_a_file_of_ones_own_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes((CONFIGS_DIR / "demo.toml").read_bytes())
    assert load_configuration(str(path)) == load_configuration("demo")
    with pytest.raises(HecktorError, match=r"one of demo, paper or the path of a \.toml file"):
        load_configuration("colour")
    path.write_text("epochs = ")
    with pytest.raises(HecktorError, match=r"mine\.toml is no TOML"):
        load_configuration(str(path))


def test_demo_sees_the_field_of_view_of_the_paper() -> None:
    demo, paper = (load_configuration(name).preparation for name in ("demo", "paper"))
    assert demo.extent_mm.tolist() == paper.extent_mm.tolist()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of configurations that is ours to spoil."""
    for path in CONFIGS_DIR.glob("*.toml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(config, "CONFIGS_DIR", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[segmentation]\n", "[segmentation]\ncolour = 3\n", r"demo.toml: segmentation\.colour: "),
        ("[preparation]\n", "seed = 1\n[preparation]\n", "demo.toml: seed: "),
        ("spacing_mm = 2.0", "spacing_mm = 0", r"demo.toml: preparation\.spacing_mm: "),
        ("spacing_mm = 2.0", "", r"demo.toml: preparation\.spacing_mm: Field required"),
        ("pet_unit_suv = 5.0", "pet_unit_suv = nan", r"demo.toml: intensity\.pet_unit_suv: "),
        ("[hpv]\n", "[hpv]\nbatch_sise = 4\n", r"demo.toml: hpv\.batch_sise: "),
        ("{ GTVp = ", "{ GTVq = ", "expected sizes of GTVp, GTVn, found"),
        ("random_crop_probability = 0.1", "random_crop_probability = 1.1", "random_crop_probab"),
    ],
)
def test_what_is_unknown_missing_or_wrong_is_an_error_of_one_line(
    folder: Path, old: str, new: str, message: str
) -> None:
    path = folder / "demo.toml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(HecktorError, match=message) as caught:
        load_configuration("demo")
    assert "\n" not in str(caught.value)


def test_a_configuration_does_not_change() -> None:
    found: Configuration = load_configuration("demo")
    with pytest.raises(ValueError, match="frozen"):
        found.segmentation.epochs = 1  # type: ignore[misc]
