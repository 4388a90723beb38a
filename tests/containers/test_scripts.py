"""The build and save scripts, the Dockerfiles and the locks, without an engine."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import cc3d
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from evaluation.running.programs import evaluation_program, program_of
from shared.docker import check_image, inventory, slim_environment, slim_system
from shared.editions import CURRENT
from tests.containers.conftest import ROOT, Project

ALGORITHMS = [program_of(algorithm) for algorithm in CURRENT.algorithms]
EVALUATION = evaluation_program()
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


def test_digest_of_the_base_image_is_recorded(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker")
    base = "python@sha256:" + "ab" * 32
    process = call(project.root / "task1_segmentation" / "do_build.sh", "--base", base)
    assert process.returncode == 0, process.stderr
    (options,) = project.calls("build")
    assert f"BASE_IMAGE={base}" in options
    assert f"BASE_DIGEST=sha256:{'ab' * 32}" in options


@pytest.mark.parametrize("name", [*NAMES, EVALUATION.name])
def test_image_of_invoke_mode_has_a_tag_and_an_archive_of_its_own(
    project: Project, on_path: Callable[..., None], tmp_path: Path, name: str
) -> None:
    on_path("docker")
    mode = ("--api-method", "invoke")
    process = call(project.root / name / "do_save.sh", *mode, "--output", str(tmp_path))
    assert process.returncode == 0, process.stderr
    (options,) = project.calls("build")
    assert "API_METHOD=invoke" in options
    assert f"hecktor2025/{name}:cpu-invoke" in options
    assert project.calls("save") == [[f"hecktor2025/{name}:cpu-invoke"]]
    (archive,) = tmp_path.glob("*.tar.gz")
    assert re.fullmatch(rf"{name}_\d+\.\d+\.\d+-cpu-invoke_deadbeef\.tar\.gz", archive.name)


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
    assert not any("VARIANT=" in option for option in options)
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
        (lambda m: (m / "model.onnx").unlink(), "that the card names, found none"),
        (lambda m: (m / "model.onnx").write_text("x"), "is not the file its card was written for"),
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
    # The survival image also contains this folder, so its build is rejected too.
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
        assert "is not the file its card was written for" in process.stderr
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


def test_save_writes_archive_bill_of_materials_and_checksums(
    project: Project, on_path: Callable[..., None], tmp_path: Path
) -> None:
    on_path("podman")
    output = tmp_path / "output"
    output.mkdir()
    save = project.root / "task3_hpv" / "do_save.sh"
    process = call(save, "--output", str(output), ENGINE="podman")
    assert process.returncode == 0, process.stderr
    assert len(project.calls("build")) == 1
    (archive,) = output.glob("*.tar.gz")
    assert re.fullmatch(r"task3_hpv_\d+\.\d+\.\d+-cpu_deadbeef\.tar\.gz", archive.name)
    with tarfile.open(archive) as content:
        assert content.getnames() == ["manifest.json"]
    bom = output / archive.name.replace(".tar.gz", ".cdx.json")
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}" for p in (archive, bom)]
    assert Path(f"{archive}.sha256").read_text().splitlines() == lines
    assert f"sha256  {lines[0][:64]}\n" in process.stdout
    assert "Upload a Container" in process.stdout
    assert sorted(output.iterdir()) == sorted([archive, bom, Path(f"{archive}.sha256")])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom.read_text()) is None
    (image_hash,) = json.loads(bom.read_text())["metadata"]["component"]["hashes"]
    assert image_hash == {"alg": "SHA-256", "content": lines[0][:64]}


INVENTORY = {
    "system": {"name": "debian", "version": "12"},
    "python": [
        {"name": "numpy", "version": "2.4.6", "licence": "BSD-3-Clause AND 0BSD"},
        {"name": "simpleitk", "version": "2.5.7", "licence": "Apache"},
        {"name": "cc3d", "version": "1", "licence": ""},
    ],
    "debian": [{"package": "libc6", "version": "2.36-9+deb12u13", "architecture": "amd64"}],
    "models": [
        {
            "task": "hpv",
            "file": "hpv.onnx",
            "sha256": "ab" * 32,
            "licence": "As the challenge's data",
            "data": "phantoms",
        }
    ],
}


def bom_of(inventory: object, archive: Path) -> str:
    arguments = ["hecktor2025/x:cpu", "1.0", "2026-01-01T00:00:00Z", str(archive)]
    process = subprocess.run(
        [sys.executable, str(ROOT / "shared/docker/sbom.py"), *arguments],
        input=json.dumps(inventory),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_bill_of_materials_lists_packages_and_models(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar.gz"
    archive.write_bytes(b"an archive")
    text = bom_of(INVENTORY, archive)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {each["name"]: each for each in json.loads(text)["components"]}
    assert components["numpy"]["purl"] == "pkg:pypi/numpy@2.4.6"
    assert components["numpy"]["licenses"] == [{"expression": "BSD-3-Clause AND 0BSD"}]
    assert components["simpleitk"]["licenses"] == [{"license": {"name": "Apache"}}]
    assert "licenses" not in components["cc3d"]
    assert components["libc6"]["purl"] == (
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12"
    )
    assert components["debian"]["type"] == "operating-system"
    assert components["hpv.onnx"]["type"] == "machine-learning-model"
    assert components["hpv.onnx"]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert text == bom_of(INVENTORY, archive)


def test_inventory_reads_packages_and_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Package: libc6\nVersion: 2.36\nArchitecture: amd64\nDescription: GNU\n C: library\n\n"
        "Package: dash\nArchitecture: amd64\nVersion: 0.5\n"
    )
    monkeypatch.setattr(inventory, "PACKAGES", status)
    assert inventory.list_debian() == [
        {"package": "libc6", "version": "2.36", "architecture": "amd64"},
        {"package": "dash", "version": "0.5", "architecture": "amd64"},
    ]
    assert inventory.read_pairs('ID=debian\nVERSION_ID="12"\n', "=") == {
        "ID": "debian",
        "VERSION_ID": "12",
    }
    monkeypatch.setattr(inventory, "MODELS", ROOT / "task3_hpv" / "model")
    card = json.loads((ROOT / "task3_hpv/model/model.json").read_text(encoding="utf-8"))
    members = [member["file"] for member in card["members"]]
    assert [model["file"] for model in inventory.list_models()] == members
    numpy = [package for package in inventory.list_python() if package["name"] == "numpy"]
    assert len(numpy) == 1


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        ({"size": 10_000_000_001}, (), "expected at most 10000000000 bytes, found 10000000001"),
        ({"user": ""}, (), "expected a USER other than root, found none"),
        ({"labels": None}, ("--api-method", "invoke"), "expected invoke in the label"),
        ({"images": 2}, (), "expected one image in the archive, found 2"),
        ({"broken": ["save"]}, (), "the daemon does not answer"),
        ({"broken": ["run"]}, (), "the daemon does not answer"),
        ({"absent": ["hecktor2025/task3_hpv:cpu"]}, (), "expected the image hecktor2025/task3_hpv"),
    ],
)
def test_nothing_is_saved_that_the_platform_rejects(
    project: Project,
    on_path: Callable[..., None],
    tmp_path: Path,
    settings: dict[str, object],
    options: tuple[str, ...],
    words: str,
) -> None:
    on_path("docker", **settings)
    output = tmp_path / "output"
    output.mkdir()
    script = project.root / "task3_hpv" / "do_save.sh"
    process = call(script, "--no-build", *options, "--output", str(output))
    assert process.returncode != 0
    assert words in process.stderr
    assert not list(output.iterdir())
    assert project.calls("build") == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Config": {"User": "root"}}, "expected a USER other than root, found root"),
        ({"Config": {"User": "0:10001"}}, "expected a USER other than root, found 0"),
        ({"Config": {"User": "00"}}, "expected a USER other than root, found 00"),
        ({"Config": None}, "expected a USER other than root, found none"),
        ({"Architecture": "arm64"}, "for linux/amd64, found linux/arm64"),
        (
            {"Config": {"User": "1", "Labels": {check_image.MODE_LABEL: "http"}}},
            "expected exec or invoke in the label .*, found 'http'",
        ),
    ],
)
def test_fault_of_an_image_is_named(change: dict[str, object], words: str) -> None:
    good = {"Os": "linux", "Architecture": "amd64", "Size": 1, "Config": {"User": "1"}}
    assert list(check_image.find_faults(good)) == []
    (fault,) = check_image.find_faults({**good, **change})
    assert re.search(words, fault)


def test_image_of_any_numeric_user_and_either_mode_is_accepted() -> None:
    image = {"Os": "linux", "Architecture": "amd64", "Size": 1, "Config": {"User": "1000"}}
    assert list(check_image.find_faults(image)) == []
    image["Config"] = {"User": "nobody", "Labels": {check_image.MODE_LABEL: "invoke"}}
    assert list(check_image.find_faults(image, "invoke")) == []


def test_file_that_is_not_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"layers")
    assert "expected an archive of an image" in str(
        check_image.find_archive_fault(tmp_path / "x.tar.gz")
    )


def test_model_tarball_is_laid_out_as_the_image_and_repeats(
    project: Project, on_path: Callable[..., None], tmp_path: Path
) -> None:
    on_path()  # no engine is needed
    script = project.root / "task2_survival" / "do_save.sh"
    contents = []
    for name in ("one", "two"):
        process = call(script, "--model-tarball", "--output", str(tmp_path / name))
        assert process.returncode == 0, process.stderr
        contents.append((tmp_path / name / "model.tar.gz").read_bytes())
        for file in project.root.glob("task*/model/*"):
            os.utime(file)
            file.chmod(0o600)
    assert contents[0] == contents[1]
    with tarfile.open(tmp_path / "one" / "model.tar.gz") as archive:
        assert archive.getnames() == [
            *("model.json", "model.onnx"),
            *("hpv", "hpv/model.json", "hpv/model.onnx"),
            *("segmentation", "segmentation/model.json", "segmentation/model.onnx"),
        ]
        assert {(each.mode, each.uid, each.mtime) for each in archive if each.isfile()} == {
            (0o644, 0, 0)
        }
        archive.extractall(tmp_path / "unpacked", filter="data")
    for place, source in {".": "task2_survival", "hpv": "task3_hpv"}.items():
        unpacked = tmp_path / "unpacked" / place / "model.json"
        assert unpacked.read_bytes() == (project.root / source / "model/model.json").read_bytes()
    digest = hashlib.sha256(contents[0]).hexdigest()
    assert (tmp_path / "one/model.tar.gz.sha256").read_text() == f"{digest}  model.tar.gz\n"
    assert "Add a Model" in process.stdout


def test_model_tarball_of_an_altered_model_is_not_written(
    project: Project, on_path: Callable[..., None], tmp_path: Path
) -> None:
    on_path()
    (project.root / "task3_hpv" / "model" / "notes.txt").write_text("mine")
    (tmp_path / "output").mkdir()
    for name in ("task2_survival", "task3_hpv"):
        process = call(
            project.root / name / "do_save.sh",
            "--model-tarball",
            "--output",
            str(tmp_path / "output"),
        )
        assert process.returncode == 1
        assert "found 'notes.txt'; remove it" in process.stderr
    process = call(project.root / "evaluation" / "do_save.sh", "--model-tarball")
    assert "the evaluation has no model" in process.stderr
    assert not list((tmp_path / "output").iterdir())


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_signed_models_are_required_if_signers_are_given(
    project: Project, on_path: Callable[..., None], tmp_path: Path
) -> None:
    on_path("docker")
    for key in ("ours", "theirs"):
        options = ["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", str(tmp_path / key)]
        subprocess.run(["ssh-keygen", *options], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f"we@example.org {(tmp_path / 'ours.pub').read_text()}")
    card = project.root / "task1_segmentation" / "model" / "model.json"
    signature = card.with_name("model.json.sig")
    build = project.root / "task1_segmentation" / "do_build.sh"

    def sign(key: str, namespace: str = "hecktor-model") -> None:
        signature.unlink(missing_ok=True)
        options = ["-q", "-Y", "sign", "-n", namespace, "-f", str(tmp_path / key), str(card)]
        subprocess.run(["ssh-keygen", *options], check=True, capture_output=True)

    assert "expected a signature of the card" in call(build, "--signers", str(signers)).stderr
    assert "expected a file of public keys" in call(build, "--signers", "/nowhere").stderr
    save = build.with_name("do_save.sh")
    assert "without --no-build" in call(save, "--no-build", "--signers", str(signers)).stderr
    for key, namespace in (("theirs", "hecktor-model"), ("ours", "file")):
        sign(key, namespace)
        process = call(build, "--signers", str(signers))
        assert "by a key in" in process.stderr
        assert project.calls("build") == []
    sign("ours")
    process = call(build, "--signers", str(signers))
    assert process.returncode == 0, process.stderr
    (tmp_path / "output").mkdir()
    process = call(
        *(save, "--model-tarball", "--signers", str(signers)),
        *("--output", str(tmp_path / "output")),
    )
    assert process.returncode == 0, process.stderr
    with tarfile.open(tmp_path / "output/model.tar.gz") as archive:
        assert archive.getnames() == ["model.json", "model.json.sig", "model.onnx"]
    card.write_text(card.read_text().replace("for tests", "for patients"))
    process = call(build, "--signers", str(signers))
    assert (process.returncode, len(project.calls("build"))) == (1, 1)
    assert "by a key in" in process.stderr
    assert call(build).returncode == 0  # without --signers, no signature is needed


def without_names(text: str, name: str) -> str:
    """Return a Dockerfile without the parts that may differ: header, name and title."""
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


def write(path: Path, text: str = "x", mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_slim_system_has_nothing_that_installs_or_changes_users(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "usr/bin/sh", mode=0o755)
    write(root / "usr/bin/perl")
    write(root / "usr/bin/su", mode=0o4755)
    write(root / "usr/bin/unknown", mode=0o6755)
    write(root / "usr/bin/shared-by-both")
    for name in ("usr/local/bin/pip3", "usr/share/man/man1/sh.1", "etc/apt/sources.list"):
        write(root / name)
    for name in ("site-packages/pip/__init__.py", "ensurepip/__init__.py", "json/__init__.py"):
        write(root / "usr/local/lib/python3.11" / name)
    write(root / "usr/share/doc/dash/copyright")
    write(root / "usr/share/doc/dash/changelog.gz")
    write(root / "etc/passwd")
    write(root / "etc/hosts")
    write(root / "tmp/left")
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/python").symlink_to("python3")
    status = root / "var/lib/dpkg/status"
    entries = {"dash": "sh", "perl-base": "perl", "login": "su"}
    write(status, "\n\n".join(f"Package: {p}\nStatus: installed" for p in entries) + "\n")
    for package, file in entries.items():
        write(status.parent / f"info/{package}.list", f"/.\n/bin\n/bin/{file}\n")
    for package in ("dash", "login:amd64"):
        file = entries[package.split(":")[0]]
        record = status.parent / f"info/{package}.list"
        record.write_text(f"/bin/{file}\n/usr/bin/shared-by-both\n")

    target = tmp_path / "target"
    slim_system.assemble(root, target)
    files = [p for p in target.rglob("*") if p.is_symlink() or p.is_file()]
    assert sorted(str(p.relative_to(target)) for p in files) == [
        *("bin", "etc/passwd", "usr/bin/python", "usr/bin/sh", "usr/bin/shared-by-both"),
        *("usr/bin/unknown", "usr/local/lib/python3.11/json/__init__.py"),
        *("usr/share/doc/dash/copyright", "var/lib/dpkg/status"),
    ]
    assert (target / "bin").is_symlink()
    assert (target / "usr/bin/unknown").stat().st_mode & 0o7777 == 0o755
    assert (target / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (target / "var/lib/dpkg/status").read_text() == "Package: dash\nStatus: installed\n"
    original = (root / "usr/bin/sh").stat().st_mtime_ns
    assert (target / "usr/bin/sh").stat().st_mtime_ns == original


def test_slim_system_without_debian_packages_is_copied(tmp_path: Path) -> None:
    write(tmp_path / "root/usr/bin/sh", mode=0o4755)
    slim_system.assemble(tmp_path / "root", tmp_path / "target")
    assert (tmp_path / "target/usr/bin/sh").stat().st_mode & 0o7777 == 0o755
    assert not (tmp_path / "target/var/lib").exists()


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
