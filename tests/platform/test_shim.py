"""All algorithms under the platform's own runtime, in both modes.

Everything that the platform would show or store is checked: return codes, outputs, and each line on
the two streams.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from shared.editions import CURRENT
from shared.tasks import Algorithm
from tests.platform import shim
from tests.platform.shim import ROOT, App, Mode, Session, image_environment, lay_out, tarball
from tests.shared.grand_challenge import toy_algorithm
from tests.shared.grand_challenge.platform_case import listed

CASES = ROOT / "tests/cases"
MODES: tuple[Mode, ...] = ("exec", "invoke")
LEAST_AGREEMENT_DSC = 0.98
"""Lowest DSC of each label with the expected mask; CPUs round differently at the rims of lesions.
"""
RISK_TOLERANCE = 1e-3
MARK = "This notice is the test's own."

Start = Callable[..., Session]


@pytest.fixture
def image(tmp_path: Path) -> Callable[..., App]:
    """Return a function that makes an algorithm's image."""

    def make(algorithm: Algorithm, mode: Mode, model: Path | None = None) -> App:
        folder = tmp_path / algorithm.name
        program = folder / "inference.py" if folder.exists() else lay_out(algorithm, folder)
        archive = None if model is None else tarball(model)
        return App((sys.executable, str(program)), image_environment(mode), archive)

    return make


def toy_image(mode: Mode) -> App:
    return App((sys.executable, str(toy_algorithm.__file__)), image_environment(mode))


def case(name: str, folder: Path) -> Path:
    """Return a sample case as the platform lays it out, with its list of inputs."""
    target = folder / name
    shutil.copytree(CASES / name / "input", target)
    content = listed()
    for entry in content:
        entry.update(interface=entry["socket"], pk="c0ffee")
    (target / "inputs.json").write_text(json.dumps(content))
    return target


def case_without_pet(folder: Path) -> Path:
    target = case("no_primary", folder / "without_pet")
    shutil.rmtree(target / "images/pet")
    return target


def toy_case(folder: Path, do: str, age: float = 61) -> Path:
    target = folder / do.replace(" ", "_")
    target.mkdir()
    (target / "ehr.json").write_text(json.dumps({"Age": age, "do": do}))
    return target


def assert_is_expected(
    algorithm: Algorithm, name: str, outputs: dict[str, bytes], folder: Path
) -> None:
    """Check that one file was collected, and that it agrees with the repository's."""
    (output,) = algorithm.outputs
    assert list(outputs) == [output.path]
    content = outputs[output.path]
    expected = ROOT / algorithm.name / "test" / name / output.path
    if output.is_image:
        path = folder / f"{name}.mha"
        path.write_bytes(content)
        assert_masks_agree(sitk.ReadImage(str(path)), sitk.ReadImage(str(expected)))
    else:
        value, wanted = json.loads(content), json.loads(expected.read_bytes())
        assert type(value) is type(wanted)
        assert math.isclose(value, wanted, rel_tol=RISK_TOLERANCE, abs_tol=RISK_TOLERANCE)


def assert_masks_agree(mask: sitk.Image, expected: sitk.Image) -> None:
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert mask.IsSameImageGeometryAs(expected)
    for label in (1, 2):
        one = sitk.GetArrayViewFromImage(mask) == label
        other = sitk.GetArrayViewFromImage(expected) == label
        total = np.count_nonzero(one) + np.count_nonzero(other)
        assert total == 0 or 2 * np.count_nonzero(one & other) / total >= LEAST_AGREEMENT_DSC


@pytest.mark.slow  # CI runs it in a step of its own
@pytest.mark.parametrize("algorithm", CURRENT.algorithms, ids=lambda each: each.name)
def test_algorithm_in_both_modes(
    start: Start, image: Callable[..., App], tmp_path: Path, algorithm: Algorithm
) -> None:
    one, other = case("no_primary", tmp_path), case("oblique_flipped", tmp_path)
    bad = case_without_pet(tmp_path)

    session = start(image(algorithm, "exec"), "exec")
    results = session.run({"one": one, "other": other})  # two cases in one invocation
    assert session.lines("stderr") == []
    answers = {}
    for job, name, result in zip(("one", "other"), (one.name, other.name), results, strict=True):
        assert result is not None
        assert (result.return_code, result.message, result.last_stderr) == (0, "", [])
        assert session.lines("stdout", job)[-1].startswith("done in ")
        assert_is_expected(algorithm, name, result.outputs, tmp_path)
        answers[job] = result.outputs

    session = start(image(algorithm, "invoke"), "invoke")
    with session.served():
        good = session.post("one", one)
        failure = session.post("bad", bad)
        next_good = session.post("other", other)
    assert (good.return_code, failure.return_code, next_good.return_code) == (0, 1, 0)
    assert good.outputs == answers["one"]  # the same bytes
    assert next_good.outputs == answers["other"]
    assert failure.outputs == {}
    (line,) = session.lines("stderr")
    assert session.lines("stderr", "bad") == [line]
    assert "expected exactly one image" in line
    assert failure.last_stderr == [line]
    for job in ("one", "other"):
        assert session.lines("stdout", job)[-1].startswith("done in ")
    assert session.runtime_log.count("Process group terminated") == 1


def test_bad_case_in_exec_mode_is_one_line(
    start: Start, image: Callable[..., App], tmp_path: Path
) -> None:
    session = start(image(CURRENT.algorithms[0], "exec", marked_model(tmp_path)), "exec")
    bad, skipped = session.run(
        {"bad": case_without_pet(tmp_path), "next": case("no_primary", tmp_path)}
    )
    assert bad is not None
    assert (bad.return_code, bad.message, bad.outputs) == (1, "", {})
    (line,) = session.lines("stderr")
    assert bad.last_stderr == [line]
    assert line.startswith("expected exactly one image (.mha, .tif, .tiff) for pet-image in ")
    assert MARK in session.lines("stdout")  # the model tarball took precedence
    assert skipped is None  # the runtime stops the invocation after a failed job


def test_model_tarball_is_served(start: Start, image: Callable[..., App], tmp_path: Path) -> None:
    session = start(image(CURRENT.algorithms[0], "invoke", marked_model(tmp_path)), "invoke")
    with session.served():  # healthy, so the models are loaded
        pass
    assert MARK in session.lines("stdout")
    assert session.lines("stderr") == []


def marked_model(folder: Path) -> Path:
    """Return Task 1's model folder with another notice."""
    model = folder / "uploaded"
    shutil.copytree(ROOT / CURRENT.algorithms[0].name / "model", model)
    card = json.loads((model / "model.json").read_bytes())
    card["notice"] = MARK
    (model / "model.json").write_text(json.dumps(card))
    return model


def test_too_little_memory_is_one_line(
    start: Start, image: Callable[..., App], tmp_path: Path
) -> None:
    session = start(image(CURRENT.algorithms[0], "exec"), "exec", memory_mb=500)
    (result,) = session.run({"one": case("no_primary", tmp_path)})
    assert result is not None
    assert (result.return_code, result.outputs) == (1, {})
    assert session.lines("stderr") == [
        "out of memory; raise the memory limit (the log has the traceback)"
    ]
    assert result.last_stderr == session.lines("stderr")


@pytest.mark.parametrize("mode", MODES)
def test_time_limit_ends_a_job_without_a_line_of_ours(
    start: Start, tmp_path: Path, mode: Mode
) -> None:
    session = start(toy_image(mode), mode, limit_s=2)
    (result,) = session.run({"one": toy_case(tmp_path, "stay in C")})
    assert result is not None
    assert result.return_code == 1
    assert result.message in ("Time limit exceeded", "Invoke time limit exceeded")
    assert session.lines("stderr") == [result.message]
    assert result.outputs == {}
    assert "Process group terminated" in session.runtime_log  # without SIGKILL


@pytest.mark.parametrize("mode", MODES)
def test_any_text_on_the_streams_does_no_harm(start: Start, tmp_path: Path, mode: Mode) -> None:
    """A byte that is not UTF-8 would fail the job; a line over 64 KiB would cause a warning."""
    session = start(toy_image(mode), mode)
    with session.served():
        bad = session.post("bad", toy_case(tmp_path, "refuse any text"))
        good = session.post("good", toy_case(tmp_path, "print any text"))
    assert bad.return_code == 1
    (line,) = session.lines("stderr")
    assert line.startswith(r"file caf\udce9 ää")
    assert bad.last_stderr == [line]
    assert good.return_code == 0
    assert good.outputs == {"rfs.json": b"61"}
    assert session.lines("stderr", "good") == []
    log = session.lines("stdout", "good")
    assert r"caf\udce9" in log
    # Variables of the platform do not reach the program, those of AWS do.
    (line,) = [line for line in log if line.startswith("environment: ")]
    assert "AWS_S3_ENDPOINT_URL" in line
    assert "GRAND_CHALLENGE" not in line
    assert "HOME" not in line


def test_missing_python_skips_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "ROOT", tmp_path)
    monkeypatch.setattr(shim, "find_python", lambda: None)
    with pytest.raises(pytest.skip.Exception, match=r"needs Python 3\.12"):
        shim.install()
