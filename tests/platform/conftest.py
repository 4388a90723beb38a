"""The platform's runtime and its S3, started once per session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.platform.shim import S3, App, Mode, Session, install, local_s3


@pytest.fixture(scope="session")
def programs() -> Path:
    """Return the folder of the runtime's programs; skips the test if it cannot run here."""
    return install()


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
        return Session(programs, s3, tmp_path_factory.mktemp(mode), app, mode, **settings)

    return session
