"""The build and save scripts, the Dockerfiles and the locks, without an engine."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cc3d
import pytest

from evaluation.running.programs import EVALUATION, program_of
from shared.docker import slim_environment
from shared.editions import CURRENT
from tests.containers.conftest import ROOT, Project

ALGORITHMS = [program_of(algorithm) for algorithm in CURRENT.algorithms]
NAMES = [program.name for program in ALGORITHMS]


def call(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(script), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("name", NAMES)
def test_build_passes_variant_version_and_revision(
    project: Project, on_path: Callable[..., None], name: str
) -> None:
    on_path("docker")
    process = call(project.root / name / "do_build.sh", "--variant", "gpu", "--base", "debian:12")
    assert process.returncode == 0, process.stderr
    (options,) = project.calls("build")
    text = " ".join(options)
    for words in (
        "--platform linux/amd64",
        "--network host",
        "--build-arg VARIANT=gpu",
        "--build-arg BASE_IMAGE=debian:12",
        "--build-arg REVISION=",
        f"--file {name}/Dockerfile --tag hecktor2025/{name}:gpu .",
    ):
        assert words in text
    assert re.search(r"--build-arg VERSION=\d+\.\d+\.\d+ ", text)
    assert re.search(r"--build-arg CREATED=\d{4}-\d\d-\d\dT", text)
    assert re.search(r"^size +0\.60 GB$", process.stdout, re.MULTILINE)
    assert re.search(r"^id +sha256:", process.stdout, re.MULTILINE)
    assert re.search(r"^revision +\S", process.stdout, re.MULTILINE)


def test_evaluation_is_built_without_model_and_variant(
    project: Project, on_path: Callable[..., None], tmp_path: Path
) -> None:
    on_path("docker")
    shutil.rmtree(project.root / "task1_segmentation" / "model")
    folder = project.root / "evaluation"
    process = call(folder / "do_build.sh")
    assert process.returncode == 0, process.stderr
    (options,) = project.calls("build")
    assert options[-5:] == [
        "--file",
        "evaluation/Dockerfile",
        "--tag",
        "hecktor2025/evaluation:cpu",
        ".",
    ]
    assert not any("VARIANT" in option for option in options)
    assert "the evaluation uses no GPU" in call(folder / "do_build.sh", "--variant", "gpu").stderr
    process = call(folder / "do_save.sh", "--no-build", "--output", str(tmp_path))
    assert process.returncode == 0, process.stderr
    assert "Evaluation Methods" in process.stdout
    assert len(list(tmp_path.glob("evaluation_*.tar.gz"))) == 1


def lfs_pointer(model: Path) -> None:
    (model / "model.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda m: (m / "model.json").unlink(), "expected a model card"),
        (lambda m: (m / "model.json").write_text("[]"), "is not a valid model card"),
        (lambda m: (m / "model.onnx").unlink(), "which its card names, found none"),
        (lambda m: (m / "model.onnx").write_text("x"), "does not match its card"),
        (lfs_pointer, "run: git lfs pull"),
    ],
)
def test_build_rejects_a_model_that_differs_from_its_card(
    project: Project,
    on_path: Callable[..., None],
    spoil: Callable[[Path], object],
    words: str,
) -> None:
    on_path("docker")
    # The survival image bundles this folder, so its build is rejected too.
    spoil(project.root / "task3_hpv" / "model")
    for name, builds in (("task3_hpv", 0), ("task2_survival", 0), ("task1_segmentation", 1)):
        process = call(project.root / name / "do_build.sh")
        assert len(project.calls("build")) == builds
        assert (words in process.stderr) == (not builds)
        assert (process.returncode == 0) == bool(builds)


def test_damaged_segmentation_model_stops_every_build_that_bundles_it(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker")
    (project.root / "task1_segmentation" / "model" / "model.onnx").write_text("x")
    for name in NAMES:
        process = call(project.root / name / "do_build.sh")
        assert process.returncode == 1
        assert "does not match its card" in process.stderr
    assert project.calls("build") == []


def test_build_explains_wrong_options(project: Project, on_path: Callable[..., None]) -> None:
    on_path()
    script = project.root / "task3_hpv" / "do_build.sh"
    assert "expected the container engine 'docker'" in call(script).stderr
    assert "found 'tpu'" in call(script, "--variant", "tpu").stderr
    assert "unknown option --fast" in call(script, "--fast").stderr
    assert "expected a value after the last option" in call(script, "--variant").stderr


@pytest.mark.parametrize("name", [*NAMES, EVALUATION.name])
def test_every_script_explains_itself(name: str) -> None:
    for script in ("do_build.sh", "do_save.sh"):
        process = call(ROOT / name / script, "-h")
        assert (process.returncode, process.stderr) == (0, "")
        assert process.stdout.startswith(f"Usage: {script}")


def test_save_writes_an_archive_and_its_checksum(
    project: Project, on_path: Callable[..., None], tmp_path: Path
) -> None:
    on_path("podman")
    process = call(
        project.root / "task3_hpv" / "do_save.sh", "--output", str(tmp_path), ENGINE="podman"
    )
    assert process.returncode == 0, process.stderr
    assert len(project.calls("build")) == 1
    (archive,) = tmp_path.glob("*.tar.gz")
    assert re.fullmatch(r"task3_hpv_\d+\.\d+\.\d+-cpu_deadbeef\.tar\.gz", archive.name)
    assert gzip.decompress(archive.read_bytes()) == b"layers\n"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert Path(f"{archive}.sha256").read_text() == f"{digest}  {archive.name}\n"
    assert digest in process.stdout
    assert "Upload a Container" in process.stdout
    assert not list(tmp_path.glob("*.partial"))


def test_save_rejects_an_image_that_is_too_large_for_the_platform(
    project: Project, on_path: Callable[..., None], tmp_path: Path
) -> None:
    on_path("docker", size=10_000_000_001)
    script = project.root / "task3_hpv" / "do_save.sh"
    process = call(script, "--no-build", "--output", str(tmp_path))
    assert process.returncode != 0
    assert "at most 10000000000; nothing was saved" in process.stderr
    assert not list(tmp_path.glob("*.tar.gz*"))
    assert project.calls("build") == []


def without_names(text: str, name: str) -> str:
    """Return a Dockerfile without what may differ: its header, its name, its title."""
    text = text[text.index("ARG BASE_IMAGE") :].replace(name, "NAME")
    return re.sub(r'title="HECKTOR 2025 .* \(', 'title="HECKTOR 2025 X (', text)


def test_dockerfiles_differ_only_in_name_and_bundled_models() -> None:
    first, *others = (
        without_names((ROOT / name / "Dockerfile").read_text(), name) for name in NAMES
    )
    added = [
        [line for line in other.splitlines() if line not in first.splitlines() and line[0] != "#"]
        for other in others
    ]
    segmentation = "COPY task1_segmentation/model /opt/app/model/segmentation"
    assert added == [[segmentation, "COPY task3_hpv/model /opt/app/model/hpv"], [segmentation]]


def test_dockerfiles_work_with_both_builders() -> None:
    for program in (*ALGORITHMS, EVALUATION):
        text = (ROOT / program.name / "Dockerfile").read_text()
        assert "# syntax" not in text
        assert "--mount" not in text
        assert f"ENTRYPOINT {json.dumps(['python', *program.arguments])}" in text
        assert "USER 10001:10001" in text


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_algorithms_share_one_lock_that_names_no_index(variant: str) -> None:
    locks = {(ROOT / name / f"requirements-{variant}.lock").read_text() for name in NAMES}
    (lock,) = locks
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    assert "index" not in lock


def test_evaluation_has_the_versions_of_the_algorithms_and_no_torch() -> None:
    ours = pinned(ROOT / "evaluation" / "requirements.lock")
    theirs = pinned(ROOT / NAMES[0] / "requirements-cpu.lock")
    assert {name: ours[name] for name in ours.keys() & theirs.keys()} == {
        name: theirs[name] for name in ours.keys() & theirs.keys()
    }
    assert {"numpy", "simpleitk", "scipy", "scikit-learn", "surface-distance"} <= ours.keys()
    assert not {"torch", "monai", "onnxruntime", "pandas", "scikit-survival"} & ours.keys()
    text = (ROOT / "evaluation" / "requirements.lock").read_text()
    assert "--hash=sha256:" in text
    assert "://" not in text


def pinned(lock: Path) -> dict[str, str]:
    """Return the versions in a lock file, by package."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def test_locks_follow_from_their_requirements() -> None:
    process = call(
        ROOT / "shared" / "docker" / "lock.sh",
        "--check",
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )
    assert process.returncode == 0, process.stdout + process.stderr
    if "not checked" in process.stdout:
        pytest.skip(process.stdout.strip())


@pytest.mark.parametrize("name", NAMES)
def test_algorithm_imports_the_library_and_no_other_algorithm(name: str) -> None:
    tree = ast.parse((ROOT / name / "inference.py").read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported - set(sys.stdlib_module_names) <= {"shared"}


def test_slimmed_libraries_still_work(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    shutil.copytree(Path(cc3d.__file__).parent, packages / "cc3d")
    (packages / "cc3d" / "tests").mkdir()
    (packages / "sympy").mkdir()
    folder = packages / "openvino"
    folder.mkdir()
    for name in ("libx.so", "libx.so.1", "libx.so.1.2"):
        (folder / name).write_bytes(b"not even ELF")
    before = sum(p.stat().st_size for p in packages.rglob("*.so"))
    slim_environment.main(tmp_path)
    assert sum(p.stat().st_size for p in packages.rglob("*.so")) < before / 2
    assert not (packages / "sympy").exists()
    assert not (packages / "cc3d" / "tests").exists()
    links = [p for p in folder.iterdir() if p.is_symlink()]
    assert len(links) == 2
    assert all(p.read_bytes() == b"not even ELF" for p in links)
    code = "import cc3d, numpy; print(cc3d.__file__, cc3d.connected_components(numpy.eye(3)).max())"
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(packages)},
    )
    assert process.stdout.split() == [str(packages / "cc3d" / "__init__.py"), "1"], process.stderr
