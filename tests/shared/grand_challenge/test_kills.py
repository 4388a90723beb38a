"""A job that is killed at any moment leaves the whole output or none."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import SimpleITK as sitk

from shared.editions import CURRENT
from shared.geometry import Grid
from shared.grand_challenge.images import open_image
from tests.shared.grand_challenge.platform_case import ct_image, files_in, the_ct, write_image

REPOSITORY = Path(__file__).resolve().parents[3]
JOB = (
    "import sys; from pathlib import Path; "
    "from tests.shared.grand_challenge.platform_case import run_job; "
    "print('imported', flush=True); "
    "raise SystemExit(run_job(Path(sys.argv[1]), Path(sys.argv[2])))"
)
MASK = CURRENT.outputs["segmentation"].path


def start(case: Path, output: Path) -> subprocess.Popen[bytes]:
    """Start a job and wait until its imports end; until then, SIGINT prints Python's traceback."""
    process = subprocess.Popen(
        [sys.executable, "-c", JOB, str(case), str(output)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"imported\n"
    return process


@pytest.mark.slow
def test_100_kills(case: Path, tmp_path: Path) -> None:
    small = ct_image()
    large = sitk.Resample(small, (300, 250, 200), outputSpacing=(0.1, 0.12, 0.16))
    large.SetOrigin(small.GetOrigin())
    large.SetDirection(small.GetDirection())
    write_image(large, the_ct(case), compressed=False)
    process = start(case, tmp_path / "whole")
    started = time.monotonic()
    process.communicate()
    assert process.returncode == 0
    duration = time.monotonic() - started
    random_ = random.Random(0)
    ends = []
    for index in range(100):
        number = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)[index % 3]
        output = tmp_path / f"output-{index}"
        process = start(case, output)
        time.sleep(duration * random_.uniform(0.05, 1))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        files = [path for path in output.rglob("*") if path.is_file()] if output.exists() else []
        whole = [path for path in files if path == output / MASK]
        if whole:
            assert open_image(whole[0]).read().GetSize() == large.GetSize()
            assert open_image(whole[0]).grid == Grid.of(open_image(the_ct(case)).read())
        if number != signal.SIGKILL:
            assert files == whole, files_in(output)
            assert len(errors.splitlines()) <= 1, errors
        ends.append((process.returncode, bool(whole)))
    codes = {code for code, _ in ends}
    assert -signal.SIGKILL in codes
    assert codes & {128 + signal.SIGTERM, 128 + signal.SIGINT}
