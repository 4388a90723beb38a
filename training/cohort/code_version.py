"""Computes a hash of the code that prepares a patient, so that an outdated cache is refused."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import SimpleITK as sitk

REPOSITORY: Final = Path(__file__).resolve().parents[2]
ROOT_MODULE: Final = "training.cohort.preparation"

NOT_DECIDING: Final = frozenset(
    {
        "shared.case",  # only holds images
        "shared.clinical",  # clinical values do not change an image
        "shared.errors",  # only messages
        "shared.schema",  # only checks a preparation, which the cache's record stores
        "training.cohort.findings",
        "training.cohort.layout",
    }
)
"""Modules that the preparation imports but that change no voxel. All other imports are hashed."""


@cache
def code_version() -> str:
    """Return a hash of the code that prepares a patient.

    Comments, docstrings and formatting do not change the hash.
    """
    digest = hashlib.sha256(sitk.Version.VersionString().encode())
    for name in sorted(imported_modules(ROOT_MODULE) - NOT_DECIDING):
        digest.update(_code_of(REPOSITORY / _path_of(name)).encode())
    return digest.hexdigest()[:16]


def imported_modules(name: str) -> set[str]:
    """Return a module and all modules of this repository that it imports, directly or not."""
    modules, queue = set[str](), [name]
    while queue:
        module = queue.pop()
        if module not in modules:
            modules.add(module)
            queue += _imports_of(module)
    return modules


def _imports_of(module: str) -> Iterator[str]:
    tree = ast.parse((REPOSITORY / _path_of(module)).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        candidates: list[str] = []
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            candidates = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in candidates if (REPOSITORY / _path_of(name)).is_file())


def _path_of(module: str) -> Path:
    return Path(*module.split(".")).with_suffix(".py")


def _code_of(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [n for n in body if not _is_docstring(n)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
