"""The entry point of every container: it runs a job and handles its failure.

In exec mode, the process starts, processes one case and ends. In invoke mode, it loads the models
once and processes one case per HTTP call, see `server`. The log goes to stdout. If a case fails,
one line on stderr explains why. The platform shows the last line of stderr to the user, and marks a
successful job that wrote to stderr as "with warnings".
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

from shared.errors import HecktorError, escaped
from shared.grand_challenge.failures import explain, is_expected
from shared.grand_challenge.images import library_errors_in_log
from shared.grand_challenge.outputs import remove_partials
from shared.grand_challenge.server import PORT, serve
from shared.grand_challenge.signals import is_ending, stop_on_signals
from shared.models.sealed import CARD_NAME
from shared.resources import cpu_seconds, granted_cpus, peak_memory_gb, reset_peak_memory

MODEL_TARBALL: Final = Path("/opt/ml/model")
"""Where the platform unpacks a model tarball; empty if no tarball was uploaded."""

Mode = Literal["exec", "invoke"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
MODE_VARIABLES: Final = ("GRAND_CHALLENGE_COMPONENT_API_METHOD", "HECKTOR_API_METHOD")
"""Environment variables that select the mode; the first one that is set is used.

The platform's runtime hides all variables that begin with GRAND_CHALLENGE_ from the program
(sagemaker-shim 0.8.3, `UserProcess.proc_env`). The first variable therefore works only without that
runtime. The build sets the second variable in the image, with the same value as the label
`org.grand-challenge.api-method`, which the platform reads.
"""

LINE_LIMIT_BYTES: Final = 32 * 1024
"""Maximum length of a line on stdout or stderr. The platform's runtime discards lines over 64 KiB
and prints a warning to stderr instead."""

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
    """Run the container of an algorithm in its mode and return the exit code.

    Parameters
    ----------
    init_model : loads the models from a model folder.
    run : processes one case, given the models, the input folder and the output folder.
    baked_model : the model folder in the image, which is used unless a model tarball was uploaded.
    arguments : the command line; `sys.argv` by default.

    Returns
    -------
    The exit code that `run_container` returns.
    """
    parser = argparse.ArgumentParser(
        description="Run the algorithm on one case, or serve cases over HTTP."
    )
    parser.add_argument("--input", type=Path, default=Path("/input"), help="input folder")
    parser.add_argument("--output", type=Path, default=Path("/output"), help="output folder")
    parser.add_argument(
        "--model",
        type=Path,
        help="model folder (default: the uploaded tarball, else the one in the image)",
    )
    add_mode_options(parser)
    options = parser.parse_args(arguments)
    # A dangling link counts too, so that the folder is refused instead of ignored.
    is_uploaded = os.path.lexists(MODEL_TARBALL / CARD_NAME)
    model_dir = options.model or (MODEL_TARBALL if is_uploaded else baked_model)

    def load() -> Callable[[], None]:
        start = time.perf_counter()
        log(f"models from {model_dir}")
        model = init_model(model_dir)
        log(f"models loaded in {time.perf_counter() - start:.1f} s")
        return lambda: run(model, options.input, options.output)

    return run_container(
        load, output_dir=options.output, api_method=options.api_method, port=options.port
    )


def add_mode_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the mode, `--api-method` and `--port`, to a command line."""
    parser.add_argument(
        "--api-method",
        choices=MODES,
        help=f"mode (default: {' or '.join(MODE_VARIABLES)}, else exec)",
    )
    parser.add_argument("--port", type=int, default=PORT, help="port in invoke mode")


def run_container(
    load: Callable[[], Callable[[], None]], *, output_dir: Path, api_method: Mode | None, port: int
) -> int:
    """Run a container in its mode and return the exit code.

    Parameters
    ----------
    load : loads what all cases need, and returns a function that processes the case that is now in
        the input folder.
    output_dir : folder from which incomplete files are removed.
    api_method : the mode; by default the one that the environment selects.
    port : port of the server in invoke mode.

    Returns
    -------
    0 on success; 1 after an error, with one line on stderr for the user. Invoke mode ends on a
    signal and returns only if the server cannot start.
    """

    def work() -> None:
        mode = api_method or read_mode(os.environ)
        with library_errors_in_log():
            answer_case = load()

        def answer() -> None:
            remove_partials(output_dir)
            with library_errors_in_log():
                answer_case()

        if mode == "invoke":
            serve(lambda: _answer_call(answer), port=port)
        answer()

    return run_job(work, output_dir=output_dir)


def read_mode(environment: Mapping[str, str]) -> Mode:
    """Return the mode that the environment variables select; exec by default.

    Raises
    ------
    HecktorError
        If the value is neither exec nor invoke.
    """
    for name in MODE_VARIABLES:
        value = environment.get(name, "")
        for mode in MODES:
            if value.lower() == mode:
                return mode
        if value:
            raise HecktorError(f"expected exec or invoke in {name}, found {value}; set one of them")
    return "exec"


def run_job(work: Callable[[], None], *, output_dir: Path) -> int:
    """Run the work of a container and return the exit code.

    SIGTERM and SIGINT end the process within a second without a message on stderr. The exit code is
    then 128 plus the number of the signal.

    Parameters
    ----------
    output_dir : folder from which incomplete files are removed if a signal ends the process.

    Returns
    -------
    0 on success; the last line of the log then states time, CPU time and memory. 1 after an error,
    with one line on stderr.
    """
    _prepare_streams()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(granted_cpus())

    try:
        with stop_on_signals(lambda: remove_partials(output_dir)):
            return _attempt(work)
    except RuntimeError as error:  # with too little memory, no thread can be started
        return _fail(explain(error))


def _answer_call(work: Callable[[], None]) -> int:
    """Process one call in invoke mode. Memory of the previous case is freed first."""
    gc.collect()
    _return_free_memory()
    reset_peak_memory()
    return _attempt(work, earlier_cpu_s=cpu_seconds())


def _attempt(work: Callable[[], None], earlier_cpu_s: float = 0.0) -> int:
    """Do the work and return the exit code.

    Parameters
    ----------
    earlier_cpu_s : CPU time of the process that does not belong to this case, in seconds.
    """
    start = time.perf_counter()
    try:
        work()
    except Exception as error:  # any failure must end with one readable line
        if not is_expected(error):
            log(*traceback.format_exc().splitlines())
        return _fail(explain(error))
    seconds = time.perf_counter() - start
    cpu_s = cpu_seconds() - earlier_cpu_s
    log(f"done in {seconds:.1f} s, CPU time {cpu_s:.1f} s, peak memory {peak_memory_gb():.2f} GB")
    return 0


def _fail(message: str) -> int:
    if is_ending.is_set():
        return 1
    sys.stdout.flush()
    print(_shorten(" ".join(message.split())), file=sys.stderr, flush=True)
    return 1


def _shorten(line: str) -> str:
    line = escaped(line)
    content = line.encode("utf-8", "backslashreplace")
    if len(content) <= LINE_LIMIT_BYTES:
        return line
    head = content[:LINE_LIMIT_BYTES].decode("utf-8", "ignore")
    return f"{head} … ({len(content)} bytes, shortened)"


def _prepare_streams() -> None:
    """Write stdout and stderr in UTF-8, and send Python's warnings to the log.

    On the platform, a single byte that is not UTF-8 makes a job fail. By default, Python would
    print such bytes of a file name unchanged.
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
    """Return freed memory to the system if the C library supports it (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
