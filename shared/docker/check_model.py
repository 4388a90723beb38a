"""Refuse a model folder whose files are not those that its card was written for.

Runs before an image is built, on the standard library alone: the machine that builds images need
not have the library's environment. At run time `shared.models.card` checks the same, and more.
"""

import hashlib
import json
import sys
from pathlib import Path

LFS_POINTER = b"version https://git-lfs"


def find_fault(folder: Path) -> str | None:
    """Return what is wrong with a model folder and what to do, or None where nothing is."""
    card_path = folder / "model.json"
    try:
        card = json.loads(card_path.read_bytes())
        members = [(folder / m["file"], m["sha256"]) for m in card["members"]]
    except OSError:
        return f"expected a model card at {card_path}, found none; train or export a model"
    except (ValueError, KeyError, TypeError):
        return f"expected {card_path} to be a model card, found something else; export again"
    for path, expected in members:
        if not path.is_file():
            return f"expected the model file {path} that the card names, found none"
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                return f"{path} is a Git LFS pointer, not the model; run: git lfs pull"
            file.seek(0)
            found = hashlib.sha256(file.read()).hexdigest()
        if found != expected:
            return (
                f"{path} is not the file its card was written for: expected SHA-256 "
                f"{expected[:12]}…, found {found[:12]}…; copy or export the model again"
            )
    return None


def main(folders: list[str]) -> int:
    """Check each folder; print the faults on stderr and return 1 if there are any."""
    faults = [fault for folder in folders if (fault := find_fault(Path(folder)))]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
