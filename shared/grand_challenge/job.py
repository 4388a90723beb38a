"""How a job of the platform runs and ends: the entry point of every container.

The image's mode decides how cases arrive. In exec mode the process starts, answers one case and
ends. In invoke mode it loads the models once and answers a case per HTTP call, see `server`.
Stdout is the log. Stderr is for the one line that explains a failure: the platform shows its last
line to the user, and marks a good job that wrote there as "with warnings".
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import io
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

import SimpleITK as sitk

from shared.errors import HecktorError
from shared.grand_challenge.outputs import remove_partials
from shared.grand_challenge.server import PORT, serve
from shared.grand_challenge.signals import stop_on_signals
from shared.models.card import CARD_NAME
from shared.resources import granted_cpus, peak_memory_gb, reset_peak_memory

MODEL_TARBALL: Final = Path("/opt/ml/model")
"""Where the platform unpacks a model tarball; empty if none was uploaded."""

Mode = Literal["exec", "invoke"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
MODE_VARIABLES: Final = ("GRAND_CHALLENGE_COMPONENT_API_METHOD", "HECKTOR_API_METHOD")
"""Environment variables that select the mode; the first that is set decides.

The platform's runtime hides all variables whose names begin with GRAND_CHALLENGE_ from the image's
program (sagemaker-shim 0.8.3, `UserProcess.proc_env`). The first variable therefore serves runs
without that runtime. The build sets the second one in the image, with the same value as the label
`org.grand-challenge.api-method`, which the platform reads.
"""

LINE_LIMIT_BYTES: Final = 32 * 1024
"""Length of a line on stdout or stderr. The platform's runtime drops a line over 64 KiB and puts a
warning on stderr instead."""

Model = TypeVar("Model")


def log(*lines: str) -> None:
    """Print lines to the job's log."""
    for line in lines:
        print(_shorten(line), flush=True)


def main(
    init_model: Callable[[Path], Model],
    run: Callable[[Model, Path, Path], None],
    *,
    baked_model: Path,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run the container in its mode and return the exit code.

    Parameters
    ----------
    init_model : loads the models from a model folder.
    run : answers one case; takes the models, the input folder and the output folder.
    baked_model : the model folder in the image, used unless a model tarball was uploaded.
    arguments : the command line; `sys.argv` by default.

    Returns
    -------
    0; or 1 after one line on stderr, which the platform shows to the user. Invoke mode returns only
    if the server cannot start: a signal ends it.
    """
    parser = argparse.ArgumentParser(description="Run the algorithm on one case, or serve cases.")
    parser.add_argument("--input", type=Path, default=Path("/input"), help="folder of the inputs")
    parser.add_argument("--output", type=Path, default=Path("/output"), help="folder to write to")
    parser.add_argument("--model", type=Path, help="model folder (default: tarball, else baked in)")
    parser.add_argument(
        "--api-method",
        choices=MODES,
        help=f"mode (default: {', else '.join(MODE_VARIABLES)}, else exec)",
    )
    parser.add_argument("--port", type=int, default=PORT, help="port of invoke mode")
    options = parser.parse_args(arguments)
    is_uploaded = (MODEL_TARBALL / CARD_NAME).is_file()
    model_dir = options.model or (MODEL_TARBALL if is_uploaded else baked_model)

    def load() -> Model:
        log(f"models from {model_dir}")
        return init_model(model_dir)

    def answer(model: Model) -> None:
        remove_partials(options.output)
        run(model, options.input, options.output)

    def start_serving() -> None:
        start = time.perf_counter()
        model = load()
        log(f"models loaded in {time.perf_counter() - start:.1f} s")
        serve(lambda: _answer_call(lambda: answer(model)), port=options.port)

    def work() -> None:
        if (options.api_method or read_mode(os.environ)) == "invoke":
            start_serving()
        else:
            answer(load())

    return run_job(work, output_dir=options.output)


def read_mode(environment: Mapping[str, str]) -> Mode:
    """Return the mode that environment variables select; exec by default.

    Raises
    ------
    HecktorError
        If the variable's value is neither exec nor invoke.
    """
    for name in MODE_VARIABLES:
        value = environment.get(name, "")
        for mode in MODES:
            if value.lower() == mode:
                return mode
        if value:
            raise HecktorError(f"expected exec or invoke in {name}, found {value}; set one of them")
    return "exec"


def run_job(work: Callable[[], None], *, output_dir: Path | None = None) -> int:
    """Do a container's work and return its exit code.

    SIGTERM and SIGINT end the process within a second, without a word on stderr; the exit code is
    then 128 + the signal's number.

    Parameters
    ----------
    output_dir : cleared of incomplete files if a signal ends the process.

    Returns
    -------
    0, the last line of the log being time and memory; or 1 after one line on stderr.
    """
    _prepare_streams()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(granted_cpus())

    def clean_up() -> None:
        if output_dir is not None:
            remove_partials(output_dir)

    with stop_on_signals(clean_up):
        return _attempt(work)


def _answer_call(work: Callable[[], None]) -> int:
    """Answer one call of invoke mode; the memory of the case before is given back first."""
    gc.collect()
    _return_free_memory()
    reset_peak_memory()
    return _attempt(work)


def _attempt(work: Callable[[], None]) -> int:
    start = time.perf_counter()
    try:
        work()
    except HecktorError as error:
        return _fail(str(error))
    except Exception as error:  # a job must end with one readable line, whatever happened
        log(*traceback.format_exc().splitlines())
        name = f"unexpected {type(error).__name__}: {error}"
        return _fail(
            f"{'out of memory' if _is_out_of_memory(error) else name}; the log has the traceback"
        )
    seconds = time.perf_counter() - start
    log(f"done in {seconds:.1f} s, peak memory {peak_memory_gb():.2f} GB")
    return 0


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; SimpleITK and ONNX Runtime raise errors of their own."""
    texts = ("allocate memory", "bad_alloc", "bad allocation")
    return isinstance(error, MemoryError) or any(text in str(error) for text in texts)


def _fail(message: str) -> int:
    sys.stdout.flush()
    print(_shorten(" ".join(message.split())), file=sys.stderr, flush=True)
    return 1


def _shorten(line: str) -> str:
    content = line.encode("utf-8", "backslashreplace")
    if len(content) <= LINE_LIMIT_BYTES:
        return line
    head = content[:LINE_LIMIT_BYTES].decode("utf-8", "ignore")
    return f"{head} … ({len(content)} bytes, shortened)"


def _prepare_streams() -> None:
    """Keep stdout and stderr in UTF-8, and Python's warnings off stderr.

    One byte that is not UTF-8 fails a job on the platform. By default, Python prints the parts of a
    file name that are not UTF-8 as they are.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    warnings.showwarning = _log_warning


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    log(f"{category.__name__}: {message} ({filename}, line {lineno})")


def _return_free_memory() -> None:
    """Give freed memory back to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
