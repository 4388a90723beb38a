"""Folders that are cases, and the names of the cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.running.case_folders import CaseError, find_cases, open_case


def make(*folders: Path) -> None:
    for folder in folders:
        (folder / "input").mkdir(parents=True)


def test_linked_cases_keep_the_names_of_their_links(tmp_path: Path) -> None:
    make(tmp_path / "store/a/scan", tmp_path / "store/b/scan")
    (tmp_path / "cases").mkdir()
    for name in "ab":
        (tmp_path / "cases" / f"MDA-{name}").symlink_to(tmp_path / "store" / name / "scan")
    assert [case.name for case in find_cases(tmp_path / "cases")] == ["MDA-a", "MDA-b"]


def test_name_of_a_case_does_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "MDA-1")
    monkeypatch.chdir(tmp_path / "MDA-1")
    case = open_case(Path())
    assert (case.name, case.input) == ("MDA-1", tmp_path / "MDA-1" / "input")


def test_hidden_folders_are_not_cases(tmp_path: Path) -> None:
    make(tmp_path / ".partial-MDA-2", tmp_path / "MDA-1")
    assert [case.name for case in find_cases(tmp_path)] == ["MDA-1"]


def test_two_folders_of_one_case_are_rejected(tmp_path: Path) -> None:
    make(tmp_path / "MDA-1", tmp_path / "MDA-1__CT")
    with pytest.raises(CaseError, match="MDA-1 and MDA-1__CT for the case MDA-1; rename or remove"):
        find_cases(tmp_path)
