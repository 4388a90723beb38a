"""Bash completes the commands of `python -m evaluation` after `source completion.sh`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
source completion.sh
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_hecktor_complete
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("-m evaluation sc", ["score"]),
        ("-m evaluation run --par", ["--parallel"]),
        ("-m pytest --col", [""]),
        ("-c print", [""]),
    ],
)
def test_commands_and_options_are_completed(words: str, completions: list[str]) -> None:
    process = subprocess.run(
        ["bash", "-c", SCRIPT.format(words=f"{sys.executable} {words}")],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.splitlines() == completions
