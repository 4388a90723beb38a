"""The model tarball of `do_save.sh`, unpacked by the platform's own runtime."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from evaluation.running.programs import lay_out, program_of
from shared.editions import CURRENT
from tests.platform.environment import ROOT
from tests.platform.shim import Session, app_of


def test_container_serves_the_models_of_the_tarball(
    start: Callable[..., Session], tmp_path: Path
) -> None:
    algorithm = CURRENT.algorithm("survival")
    (tmp_path / "output").mkdir()
    script = ROOT / algorithm.name / "do_save.sh"
    options = ["--model-tarball", "--output", str(tmp_path / "output")]
    subprocess.run([str(script), *options], check=True, capture_output=True)
    program, image = program_of(algorithm), tmp_path / "image"
    lay_out(program, root=ROOT, folder=image)
    shutil.rmtree(image / "model")  # Only the tarball has models.
    app = app_of(program, "invoke", python=Path(sys.executable), folder=image)

    session = start(app, "invoke", uploaded=tmp_path / "output" / "model.tar.gz")
    with session.served():  # healthy, so the models are loaded
        pass
    assert session.lines("stderr") == []
    log = session.lines("stdout")
    for task in ("survival", "hpv", "segmentation"):
        assert any(line.startswith(f"{task} model: demo configuration") for line in log), log
