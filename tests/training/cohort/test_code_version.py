"""The hash of the code that prepares a patient."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from training.cohort import code_version as module
from training.cohort.code_version import (
    NOT_DECIDING,
    REPOSITORY,
    ROOT_MODULE,
    code_version,
    imported_modules,
)

Version = Callable[..., str]


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Version]:
    """Return a function that writes modules into a repository and returns its code version."""

    def version_of(**modules: str) -> str:
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
        code_version.cache_clear()
        return code_version()

    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    monkeypatch.setattr(module, "ROOT_MODULE", "root")
    yield version_of
    code_version.cache_clear()


def test_code_changes_the_version_and_comments_do_not(version: Version) -> None:
    first = version(root='"""Idea."""\ndef f():\n    """Return 1."""\n    return 1\n')
    assert version(root="def f():  # why\n    return (1)\n") == first
    assert version(root="def f():\n    return 2\n") != first


def test_imported_modules_change_the_version(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NOT_DECIDING", {"messages"})
    root = "import numpy\nimport messages\nfrom near import far\n"
    first = version(root=root, near="import far\n", far="A = 1\n", messages="B = 1\n", other="")
    assert imported_modules("root") == {"root", "near", "far", "messages"}
    assert version(other="C = 2\n") == first
    assert version(messages="B = 2\n") == first
    assert version(far="A = 2\n") != first


def loaded_modules() -> set[str]:
    """Return the modules of this repository that a new interpreter loads to prepare a patient."""
    command = f"import sys, {ROOT_MODULE}; print(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", command],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name for name in process.stdout.split() if name.split(".")[0] in ("shared", "training")}


def test_every_module_that_preparation_loads_is_hashed_or_known_not_to_decide() -> None:
    loaded = loaded_modules()
    packages = {name for name in loaded if (REPOSITORY / Path(*name.split("."))).is_dir()}
    assert loaded - packages == imported_modules(ROOT_MODULE)
    assert imported_modules(ROOT_MODULE) > NOT_DECIDING
    for name in packages:  # they are not hashed, so they must not contain code
        path = REPOSITORY / Path(*name.split(".")) / "__init__.py"
        statements = ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else []
        assert [type(statement) for statement in statements] in ([], [ast.Expr]), name


def test_preparation_and_geometry_decide() -> None:
    deciding = imported_modules(ROOT_MODULE) - NOT_DECIDING
    assert {
        "shared.geometry",
        "shared.preprocessing.pipeline",
        "shared.preprocessing.region",
        "training.cohort.preparation",
    } <= deciding
