"""How a job of the platform runs and ends: the entry point of every container.

Exec mode: the process starts, answers one case and ends. Stdout is the job's log. Stderr is for the
one line that explains a failure, because the platform shows it to the user.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import SimpleITK as sitk

from shared.errors import HecktorError
from shared.models.card import CARD_NAME
from shared.resources import granted_cpus, peak_memory_gb

MODEL_TARBALL: Final = Path("/opt/ml/model")
"""Where the platform unpacks a model tarball; empty if none was uploaded."""

Model = TypeVar("Model")


def log(*lines: str) -> None:
    """Print lines to the job's log."""
    for line in lines:
        print(line, flush=True)


def main(
    init_model: Callable[[Path], Model],
    run: Callable[[Model, Path, Path], None],
    *,
    baked_model: Path,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run one job and return its exit code.

    Parameters
    ----------
    init_model : loads the models from a model folder.
    run : answers one case; takes the models, the input folder and the output folder.
    baked_model : the model folder in the image, used unless a model tarball was uploaded.
    arguments : the command line; `sys.argv` by default.

    Returns
    -------
    0; or 1 after one line on stderr, which the platform shows to the user.
    """
    parser = argparse.ArgumentParser(description="Run the algorithm on one case.")
    parser.add_argument("--input", type=Path, default=Path("/input"), help="folder of the inputs")
    parser.add_argument("--output", type=Path, default=Path("/output"), help="folder to write to")
    parser.add_argument("--model", type=Path, help="model folder (default: tarball, else baked in)")
    options = parser.parse_args(arguments)
    is_uploaded = (MODEL_TARBALL / CARD_NAME).is_file()
    model_dir = options.model or (MODEL_TARBALL if is_uploaded else baked_model)

    def answer() -> None:
        log(f"models from {model_dir}")
        run(init_model(model_dir), options.input, options.output)

    return run_job(answer)


def run_job(work: Callable[[], None]) -> int:
    """Do a container's work and return its exit code.

    Returns
    -------
    0, the last line of the log being time and memory; or 1 after one line on stderr.
    """
    start = time.perf_counter()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(granted_cpus())
    try:
        work()
    except HecktorError as error:
        return _fail(str(error))
    except Exception as error:  # a job must end with one readable line, whatever happened
        traceback.print_exc(file=sys.stdout)
        return _fail(f"unexpected {type(error).__name__}: {error}; the log has the traceback")
    seconds = time.perf_counter() - start
    log(f"done in {seconds:.1f} s, peak memory {peak_memory_gb():.2f} GB")
    return 0


def _fail(message: str) -> int:
    sys.stdout.flush()
    print(" ".join(message.split()), file=sys.stderr, flush=True)
    return 1
