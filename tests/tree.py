"""Where the working tree and the real data are, and a copy of the tree that tests may change."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REALDATA = Path(os.environ.get("HECKTOR_REALDATA", ROOT.parent / "shared/realdata"))
"""Real images and clinical tables; the folder need not exist."""


def copy_tree(folder: Path) -> None:
    """Copy the working tree without the files that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
