"""Reject a model folder whose files do not match its card.

Runs before an image is built and uses only the standard library, because a machine that builds
images needs no Python environment. When a model is loaded, `shared.models.card` checks more.
"""

import hashlib
import json
import sys
from pathlib import Path

LFS_POINTER = b"version https://git-lfs"


def find_fault(folder: Path) -> str | None:
    """Return what is wrong with a model folder and what to do, or None if it is correct."""
    card_path = folder / "model.json"
    try:
        card = json.loads(card_path.read_bytes())
        members = [(folder / m["file"], m["sha256"]) for m in card["members"]]
    except OSError:
        return f"expected a model card at {card_path}, found none; train or export a model"
    except (ValueError, KeyError, TypeError):
        return f"{card_path} is not a valid model card; export the model again"
    for path, expected in members:
        if not path.is_file():
            return f"expected the model file {path}, which its card names, found none"
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                return f"{path} is a Git LFS pointer, not the model; run: git lfs pull"
            file.seek(0)
            digest = hashlib.sha256(file.read()).hexdigest()
        if digest != expected:
            return (
                f"{path} does not match its card: expected SHA-256 {expected[:12]}…, "
                f"found {digest[:12]}…; copy or export the model again"
            )
    return None


def main(folders: list[str]) -> int:
    """Check model folders; print the faults on stderr and return 1 if there are any."""
    faults = [fault for folder in folders if (fault := find_fault(Path(folder)))]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
