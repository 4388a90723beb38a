from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.submission import Submission


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    return Submission(tmp_path)
