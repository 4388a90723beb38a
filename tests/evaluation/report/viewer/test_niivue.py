"""NiiVue as a script, and the errors if its package is missing or unknown."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from evaluation.report.viewer import niivue
from evaluation.report.viewer.niivue import PACKAGE, VERSION, read_niivue
from shared.errors import InputError

ROOT = Path(__file__).parents[4]


class FakePackage:
    """An installed package with one file."""

    version = "9.9.9"

    def __init__(self, file: Path) -> None:
        self.file = file

    def locate_file(self, _: str) -> Path:
        return self.file

    def read_text(self, _: str) -> str:
        return "a licence"


def test_script_defines_niivue_and_has_its_licence() -> None:
    script = read_niivue()
    assert script.startswith("/*! NiiVue, BSD 2-Clause License")
    assert "Redistribution and use in source and binary forms" in script[:2000]
    assert "window.Niivue=" in script[-100:]
    assert "export{" not in script[-100:]


def test_version_is_the_one_of_pyproject() -> None:
    assert f'"{PACKAGE}=={VERSION}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_missing_package_is_reported_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(niivue, "distribution", missing)
    with pytest.raises(InputError, match=r"pip install --no-deps ipyniivue==2\.4\.4"):
        read_niivue()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "export{a as default};",
        'console.log("Creating new Niivue instance");x=new t2(C)',
        'console.log("Creating new Niivue instance");x=new t2(C);"</script>";export{a as default};',
    ],
)
def test_unknown_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "widget.js"
    file.write_text(text)
    monkeypatch.setattr(niivue, "distribution", lambda _: FakePackage(file))
    with pytest.raises(InputError, match=r"found another file in version 9\.9\.9"):
        read_niivue()


def test_names_of_the_module_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "widget.js"
    file.write_text(
        'class $a{};let v;if(!v){console.log("Creating new Niivue instance");v=new $a(1)}'
        "export{v as default};\n"
    )
    monkeypatch.setattr(niivue, "distribution", lambda _: FakePackage(file))
    assert read_niivue().endswith("v=new $a(1)}\nwindow.Niivue=$a;})();")
