"""A small copy of the repository with algorithms that need no weights, and a fake engine."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import SimpleITK as sitk

from tests.containers.__main__ import Setup
from tests.containers.contract import ALGORITHMS, EVALUATION

ROOT: Final = Path(__file__).resolve().parents[2]
FAKES: Final = Path(__file__).with_name("fakes")
SIZE_XYZ: Final = (24, 20, 16)
LESION_ZYX: Final = np.s_[6:10, 8:12, 10:14]


def this_python(program: object) -> Path:
    """Return the interpreter of the tests, for every program."""
    return Path(sys.executable)


def write_model(folder: Path, **card: object) -> None:
    """Write a model folder with one file of a few bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    name = folder.parent.name.encode()
    # An ONNX file with an empty graph: ir_version, producer_name, graph.
    weights = b"\x08\x0a\x12" + bytes([len(name)]) + name + b"\x3a\x00"
    (folder / "model.onnx").write_bytes(weights)
    member = {"file": "model.onnx", "sha256": hashlib.sha256(weights).hexdigest()}
    fields = {
        "task": "none",
        "notice": "for tests",
        "licence": "none",
        "training": {"data": "none"},
    }
    text = json.dumps({**fields, "members": [member], **card})
    (folder / "model.json").write_text(text)


def write_case(folder: Path) -> None:
    """Write a case with one lesion of SUV 10, on an oblique CT grid, and its truth."""
    ct = sitk.GetImageFromArray(np.zeros(SIZE_XYZ[::-1], dtype=np.int16))
    ct.SetSpacing((4.0, 4.0, 5.0))
    ct.SetOrigin((-30.0, 12.5, 100.0))
    c, s = np.cos(0.2), np.sin(0.2)
    ct.SetDirection((c, -s, 0, s, c, 0, 0, 0, -1))
    uptake = np.ones(SIZE_XYZ[::-1], dtype=np.float32)
    uptake[LESION_ZYX] = 10
    pet = sitk.GetImageFromArray(uptake)
    pet.CopyInformation(ct)
    for name, image in (("ct", ct), ("pet", pet)):
        path = folder / "input" / "images" / name / "scan.mha"
        path.parent.mkdir(parents=True)
        sitk.WriteImage(image, str(path), useCompression=True)
    (folder / "input" / "ehr.json").write_text('{"Age": 61, "M-stage": "M0"}')
    sitk.WriteImage(sitk.Cast(pet > 5, sitk.sitkUInt8), str(folder / "truth.nii.gz"))
    (folder / "truth.json").write_text('{"hpv": true, "relapse": 0, "rfs_days": 900}')


@dataclass
class Project:
    """The small copy of the repository.

    Attributes
    ----------
    root : root of the copy, which takes the place of the checkout.
    engine : folder of the fake engine, see fakes/engine.py.
    bounds : file with the lowest permitted DSC of the case.
    """

    root: Path
    engine: Path
    bounds: Path

    @property
    def setup(self) -> Setup:
        """The setup, with the interpreter of the tests: making an environment takes a minute."""
        return Setup(
            root=self.root, bounds=self.bounds, python_of=this_python, stages=("containers",)
        )

    def set_fault(self, algorithm: str, fault: str) -> None:
        """Make an algorithm misbehave."""
        model = self.root / algorithm / "model"
        card = json.loads((model / "model.json").read_text())
        write_model(model, **{**card, "fault": fault})

    def settle(self, **settings: object) -> None:
        """Change how the fake engine answers."""
        path = self.engine / "settings.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))

    def calls(self, command: str) -> list[list[str]]:
        """Return the arguments of each call of a command of the fake engine."""
        path = self.engine / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call[2:] for call in map(json.loads, lines) if call[1] == command]


def make_sbom_environment(root: Path) -> None:
    """Make the environment of `sbom.py` in a checkout, with the interpreter of the tests."""
    program = root / ".venv-sbom" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    lock = (root / "shared" / "docker" / "requirements-sbom.lock").read_bytes()
    (root / ".venv-sbom" / "stamp").write_text(hashlib.sha256(lock).hexdigest())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "checkout"
    for package in ("shared", EVALUATION.name):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, root / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", root)
    for contract in ALGORITHMS:
        folder = root / contract.name
        write_model(folder / "model", holds=contract.files[0].holds)
        shutil.copy(FAKES / "inference.py", folder)
        for script in ("do_build.sh", "do_save.sh"):
            shutil.copy(ROOT / contract.name / script, folder)
    write_case(root / "tests" / "cases" / "tiny")
    make_sbom_environment(root)
    bounds = tmp_path / "bounds.json"
    bounds.write_text('{"tiny": {"GTVp": 0.9, "GTVn": 1.0}}')
    engine = tmp_path / "engine"
    engine.mkdir()
    (engine / "settings.json").write_text(json.dumps({"root": str(root), "size": 600_000_000}))
    return Project(root, engine, bounds)


@pytest.fixture
def on_path(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Return a function that puts fake engines on a PATH without a real one."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    # Only what the scripts need: a real engine must not be found.
    for name in (
        *("bash", "env", "dirname", "basename", "find", "sed", "git", "date", "python3", "chmod"),
        *("gzip", "mv", "rm", "mktemp", "cat", "cut", "stat", "sha256sum", "unshare", "true"),
        *("realpath", "ssh-keygen", "mkdir"),
    ):
        if found := shutil.which(name):
            (binaries / name).symlink_to(sys.executable if name == "python3" else found)
    monkeypatch.setenv("PATH", str(binaries))
    monkeypatch.setenv("FAKE_ENGINE", str(project.engine))

    def put(*names: str, **settings: Any) -> None:
        for name in names:
            script = binaries / name
            script.write_text(f"#!{sys.executable}\n" + (FAKES / "engine.py").read_text())
            script.chmod(0o755)
        project.settle(**settings)

    return put
