"""stub"""

from pathlib import Path


def report(folder: Path, out: Path) -> None:
    """X."""
