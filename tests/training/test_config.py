"""Configurations: all files in the repository are valid, and a mistake in a file is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import HecktorError
from shared.models.networks.dynunet import DynUNetConfig
from shared.models.networks.segresnet import SegResNetConfig
from shared.postprocessing.rules import Rules
from training import config
from training.config import CONFIGS_DIR, Configuration, load_configuration

NAMES = ("demo", "paper", "resenc", "segresnet")


def test_names_of_the_configurations() -> None:
    assert {path.stem for path in CONFIGS_DIR.glob("*.toml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_windows_and_crops_fit_the_region_and_the_network(name: str) -> None:
    configuration = load_configuration(name)
    task1, hpv, survival = configuration.segmentation, configuration.hpv, configuration.survival
    region_zyx = configuration.preparation.size_xyz[::-1]
    for size in (task1.window_zyx, task1.crop_zyx, hpv.window_zyx, survival.window_zyx):
        assert all(w <= s for w, s in zip(size, region_zyx, strict=True))
    for size in (task1.window_zyx, task1.crop_zyx, hpv.window_zyx):
        assert all(side % task1.network.divisor == 0 for side in size)
    assert hpv.batch_size % 2 == 0
    assert task1.overlap < 1
    assert set(task1.min_component_mm3) <= {"GTVp", "GTVn"}


def test_paper_has_the_numbers_of_the_paper() -> None:
    paper = load_configuration("paper")
    assert paper.preparation.spacing_mm == 1
    assert paper.preparation.size_xyz == (288, 288, 288)
    assert paper.segmentation.crop_zyx == (192, 192, 192)
    assert paper.segmentation.min_component_mm3 == {"GTVp": 100, "GTVn": 100}
    tasks = (paper.segmentation, paper.survival, paper.hpv)
    assert [task.batch_size * task.accumulate_batches for task in tasks] == [2, 16, 4]
    for task in tasks:
        assert (task.epochs, task.learning_rate, task.cosine_decay) == (500, 1e-4, False)


@pytest.mark.parametrize("name", NAMES)
def test_networks_have_the_inputs_of_the_paper(name: str) -> None:
    configuration = load_configuration(name)
    assert configuration.segmentation.channels == ("CT", "PET")
    assert configuration.survival.channels == ("CT", "PET", "GTVp", "GTVn")
    assert configuration.hpv.clinical == ("age", "gender", "tobacco", "alcohol")
    assert configuration.survival.clinical == (
        "hpv",
        "tobacco",
        "alcohol",
        "age",
        "gender",
        "performance_status",
        "treatment",
        "m_stage",
    )


def test_architecture_chooses_the_network() -> None:
    paper = load_configuration("paper").segmentation.network
    assert paper == DynUNetConfig(filters=(32, 64, 128, 256, 320), strides=(1, 2, 2, 2, 2))
    assert load_configuration("segresnet").segmentation.network == SegResNetConfig(filters=16)


def test_segresnet_is_the_demo_with_another_network() -> None:
    demo, other = (load_configuration(name).model_dump() for name in ("demo", "segresnet"))
    del demo["segmentation"]["network"], other["segmentation"]["network"]
    assert demo == other


def test_configuration_survives_json() -> None:
    for name in NAMES:
        configuration = load_configuration(name)
        stored = configuration.model_dump_json()
        assert Configuration.model_validate_json(stored) == configuration


def test_paper_always_averages_and_has_no_further_rules() -> None:
    task1 = load_configuration("paper").segmentation
    assert task1.averaging is not None
    assert task1.averaging.keep == "always"
    assert task1.rules == Rules()
    assert task1.mirror_axes == ()


def test_another_file_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes((CONFIGS_DIR / "demo.toml").read_bytes())
    assert load_configuration(str(path)) == load_configuration("demo")
    with pytest.raises(
        HecktorError, match=r"demo, paper, resenc, segresnet or the path of a \.toml file"
    ):
        load_configuration("colour")
    path.write_text("epochs = ")
    with pytest.raises(HecktorError, match=r"mine\.toml is not valid TOML"):
        load_configuration(str(path))


def test_demo_sees_the_field_of_view_of_the_paper() -> None:
    demo, paper = (load_configuration(name).preparation for name in ("demo", "paper"))
    assert demo.extent_mm.tolist() == paper.extent_mm.tolist()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of configurations that a test may change."""
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
        ('architecture = "dynunet"', "", r"segmentation\.network: Unable to extract tag"),
        ('"dynunet"', '"unet"', r"segmentation\.network: .* expected tags: .*'resenc_unet'"),
        ("deep_supervision_heads", "heads", r"segmentation\.network\.dynunet\.heads: Extra"),
        ('= ["age", ', '= ["weight", ', r"hpv\.clinical\.0: .* one of age, gender, .*'weight'"),
        ('= ["age", ', '= ["hpv", ', r"hpv: .* without hpv, which Task 3 predicts"),
        ('= ["age", ', '= ["gender", ', r"hpv\.clinical: .* different entries, found gender, gen"),
        ('["age", "gender", "tobacco", "alcohol"]', "[]", r"hpv\.clinical: "),
        ('"m_stage"', '"centre_id"', r"survival\.clinical\.7: .* found 'centre_id'"),
        ('"GTVp", "GTVn"]', '"GTVp", "MR"]', r"survival\.channels\.3: "),
        ('"GTVp", "GTVn"]', '"GTVp", "CT"]', r"survival\.channels: .* different entries"),
        ('["CT", "PET"]', '["CT", "GTVp"]', r"segmentation\.channels\.1: "),
        ('["CT", "PET"]', "[]", r"segmentation\.channels: "),
        ("crop_zyx = [64, 64, 64]", "crop_zyx = [64, 64, 72]", "crop_zyx that are multiples of 16"),
        ("size_xyz = [144, 144, 144]", "size_xyz = [144, 144, 64]", "expected hpv.window_zyx to f"),
    ],
)
def test_mistake_is_an_error_of_one_line(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "demo.toml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(HecktorError, match=message) as error:
        load_configuration("demo")
    assert "\n" not in str(error.value)


def test_configuration_is_frozen() -> None:
    configuration = load_configuration("demo")
    with pytest.raises(ValueError, match="frozen"):
        configuration.segmentation.epochs = 1  # type: ignore[misc]
