"""Installs the platform's runtime and a local S3 in a separate environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from shared.errors import HecktorError
from shared.files import locked

ROOT: Final = Path(__file__).resolve().parents[2]
REQUIREMENTS: Final = ("sagemaker-shim==0.8.3", "moto[server]==5.2.5")


class NoPythonError(HecktorError):
    """The Python that the runtime needs is not installed."""


def install(root: Path = ROOT) -> Path:
    """Install the runtime below a checkout if necessary, and return the folder of its programs.

    uv resolves the versions of the dependencies, because pip takes minutes for that.

    Raises
    ------
    NoPythonError
        If Python 3.12 is not installed.
    """
    venv = root / ".venv-shim"
    venv.mkdir(exist_ok=True)
    stamp, programs = venv / "stamp", venv / "bin"
    with locked(stamp):
        if not stamp.is_file() or stamp.read_text() != str(REQUIREMENTS):
            _run(_require_python(), "-m", "venv", str(venv))
            pip = (str(programs / "python"), "-m", "pip", "install", "-qq")
            _run(*pip, "--disable-pip-version-check", _pinned_uv())
            uv = (str(programs / "uv"), "--quiet", "--no-progress", "pip", "install")
            _run(*uv, "--python", str(programs / "python"), *REQUIREMENTS)
            stamp.write_text(str(REQUIREMENTS))
    return programs


def find_python() -> str | None:
    """Return a Python 3.12 interpreter, or None."""
    names = [shutil.which("python3.12")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    names += map(str, sorted(pyenv.glob("versions/3.12.*/bin/python3.12")))
    for name in names:
        # The python3.12 command of pyenv fails unless this version is selected.
        if name and subprocess.run([name, "-c", ""], capture_output=True).returncode == 0:
            return name
    return None


def _require_python() -> str:
    python = find_python()
    if python is None:
        raise NoPythonError(
            "expected Python 3.12 for sagemaker-shim, found none; install it to run the programs "
            "under the runtime of the platform"
        )
    return python


def _pinned_uv() -> str:
    """Return the requirement of uv in pyproject.toml."""
    match = re.search(r'"(uv==[\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert match is not None
    return match[1]


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
