"""The platform's runtime and its S3, started once per session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.grand_challenge.job import Mode
from tests.platform.environment import NoPythonError, install
from tests.platform.s3 import S3, local_s3
from tests.platform.shim import App, Session


@pytest.fixture(scope="session")
def programs() -> Path:
    """Return the folder of the runtime's programs; skips the test if it cannot run here."""
    try:
        return install()
    except NoPythonError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def s3(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with local_s3(programs, tmp_path_factory.mktemp("s3") / "log.txt") as s3:
        yield s3


@pytest.fixture
def start(
    programs: Path, s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Session]:
    """Return a function that prepares a start of the runtime."""

    def session(app: App, mode: Mode, **settings: Any) -> Session:
        folder = tmp_path_factory.mktemp(mode)
        return Session(app, mode, programs=programs, s3=s3, folder=folder, **settings)

    return session
