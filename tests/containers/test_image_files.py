from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.containers.conftest import Project
from tests.containers.contract import ALGORITHMS
from tests.containers.image_files import check_files
from tests.containers.test_command import make_command


def entry(
    name: str, mode: int = 0o755, uid: int = 0, headers: dict[str, str] | None = None
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.pax_headers = mode, uid, headers or {}
    return info


GOOD = [
    *("usr/bin/python3.11", "usr/bin/sh", "usr/bin/tar", "etc/passwd", "usr/bin/piper"),
    *("opt/venv/lib/python3.11/site-packages/numpy/__init__.py", "var/lib/dpkg/status"),
]

CAPABLE = {"SCHILY.xattr.security.capability": "x"}


@pytest.mark.parametrize(
    ("bad", "check"),
    [
        (entry("usr/bin/su", 0o4755), "no privileged program"),
        (entry("usr/bin/chage", 0o2755), "no privileged program"),
        (
            entry("bin/ping", headers={"SCHILY.xattr.security.capability": "x"}),
            "no privileged program",
        ),
        (entry("usr/bin/pip3.11"), "no installer"),
        (entry("usr/bin/apt-get"), "no installer"),
        (entry("usr/bin/dpkg"), "no installer"),
        (entry("usr/bin/perl5.36.0"), "no installer"),
        (entry("usr/local/lib/python3.11/site-packages/pip/__init__.py"), "no installer"),
        (entry("usr/share/python-wheels/pip-23.0.1-py3-none-any.whl"), "no installer"),
        (entry("usr/lib/python3.11/ensurepip/__init__.py"), "no installer"),
        (entry("usr/share/perl5/Debconf/Log.pm"), "no installer"),
        (entry("opt/app/shared/tasks.py", 0o646), "files of root"),
        (entry("opt/app/shared/tasks.py", uid=10001), "files of root"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else value,
)
def test_file_that_must_not_be_in_an_image_is_named(bad: tarfile.TarInfo, check: str) -> None:
    good = [entry(name) for name in GOOD]
    assert all(each.passed for each in check_files(good))
    (failure,) = (each for each in check_files([*good, bad]) if not each.passed)
    assert failure.name == check
    assert f"found {bad.name}" in str(failure.problem)


def test_image_without_files_fails() -> None:
    assert [each.passed for each in check_files([])] == [False, True, True, True]


def test_folder_and_link_may_have_any_mode() -> None:
    folder, link = entry("tmp", 0o1777), entry("usr/bin/python", 0o777)
    folder.type, link.type = tarfile.DIRTYPE, tarfile.SYMTYPE
    assert all(each.passed for each in check_files([folder, link]))


def test_set_uid_file_fails_the_command(
    project: Project, on_path: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    on_path("docker", files={"usr/bin/su": 0o4755})
    command = make_command(project, replace(project.setup, bad_submissions={}), capsys)
    code, lines = command("--task", "evaluation", algorithms=ALGORITHMS[2:])
    assert code == 1
    assert any("set-gid or capabilities, found usr/bin/su" in line for line in lines)
