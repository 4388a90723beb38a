"""The case that the tests of the platform's contract start from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.shared.grand_challenge.platform_case import (
    EHR,
    ct_image,
    pet_image,
    write_image,
)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """Return an input folder in the platform's layout."""
    folder = tmp_path / "input"
    write_image(ct_image(), folder / "images/ct/scan.mha")
    write_image(pet_image(), folder / "images/pet/0f3c.mha")
    (folder / "ehr.json").write_text(json.dumps(EHR))
    return folder
