"""The model tarball of `do_save.sh`, unpacked by the platform's own runtime."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from shared.editions import CURRENT
from tests.platform.shim import ROOT, App, Session, image_environment, lay_out


def test_container_serves_the_models_of_the_tarball(
    start: Callable[..., Session], tmp_path: Path
) -> None:
    algorithm = CURRENT.algorithm("survival")
    (tmp_path / "output").mkdir()
    script = ROOT / algorithm.name / "do_save.sh"
    options = ["--model-tarball", "--output", str(tmp_path / "output")]
    subprocess.run([str(script), *options], check=True, capture_output=True)
    program = lay_out(algorithm, tmp_path / "image")
    shutil.rmtree(tmp_path / "image" / "model")  # Only the tarball has models.
    archive = (tmp_path / "output" / "model.tar.gz").read_bytes()
    app = App((sys.executable, str(program)), image_environment("invoke"), archive)

    session = start(app, "invoke")
    with session.served():  # healthy, so the models are loaded
        pass
    assert session.lines("stderr") == []
    log = session.lines("stdout")
    for task in ("survival", "hpv", "segmentation"):
        assert any(line.startswith(f"{task} model: demo configuration") for line in log), log
