"""Runs one network in ONNX Runtime. No other file imports the runtime.

The network runs on the first of CUDA, OpenVINO and CPU that works on this machine; a remark says
why an earlier provider does not work. Nothing is written to stderr, because the platform marks a
job that writes there and shows the last line to the user. All providers compute in float32, with
one exception: OpenVINO uses bfloat16 if the card says so and the CPU has instructions for it.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import ModelError, escaped
from shared.models.card import Precision
from shared.models.sealed import read_graph
from shared.resources import granted_cpus, has_bfloat16


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard stderr, also that of C++ code; exceptions still pass.

    When ONNX Runtime is imported, it searches for GPUs. If a GPU is not a PCI device, as on the
    platform's machines, it writes a warning to stderr before its log level can be set.
    See https://github.com/microsoft/onnxruntime/issues/26763 and /27092.
    """
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


with _silent_stderr():
    import onnxruntime as ort

_FATAL_ONLY: Final = 4

ort.set_default_logger_severity(_FATAL_ONLY)
ort.disable_telemetry_events()

PROVIDERS: Final = ("CUDA", "OpenVINO", "CPU")
"""The execution providers, best first."""


class Network:
    """An ONNX graph, loaded once and called often.

    Attributes
    ----------
    provider : the provider of `PROVIDERS` that runs the graph.
    remarks : lines for the log that say why a better provider is not used.
    inputs : shape of each input by name.
    """

    provider: str
    remarks: tuple[str, ...]
    inputs: dict[str, tuple[int, ...]]

    def __init__(
        self,
        path: Path,
        providers: Sequence[str] = PROVIDERS,
        *,
        sha256: str | None = None,
        precision: Precision = "float32",
    ) -> None:
        """Load a graph.

        Parameters
        ----------
        path : a `.onnx` file with its weights inside.
        sha256 : the file's SHA-256 in the card; None accepts any file.
        providers : the providers to try, best first. Providers that ONNX Runtime was not built with
            are skipped without a remark. The plain CPU provider is always tried last.
        precision : "bfloat16" allows OpenVINO to compute in bfloat16 on a CPU with instructions for
            it; elsewhere it has no effect.

        Raises
        ------
        ModelError
            If the file does not have this SHA-256, if it refers to another file, or if no provider
            can load it.
        """
        # The runtime gets the bytes that were checked, and never opens a file itself.
        content = read_graph(path, sha256)
        built_with = ort.get_available_providers()
        remarks = []
        for provider in (p for p in providers if p != "CPU" and _full_name(p) in built_with):
            try:
                if provider == "CUDA":
                    _load_cuda()
                self._session = _open(content, provider, precision)
            except Exception as error:  # The next provider can still run it.
                remarks.append(f"{provider} is not usable here ({_first_line(error)})")
                continue
            self.provider = provider
            break
        else:
            try:
                self._session = _open(content, "CPU", precision)
            except Exception as error:
                raise ModelError(
                    f"expected an ONNX model in {path}, but ONNX Runtime cannot load it: "
                    f"{_first_line(error)}; export the model again"
                ) from None
            self.provider = "CPU"
        self.remarks = tuple(f"{remark}; running on {self.provider}" for remark in remarks)
        self.inputs = {i.name: tuple(i.shape) for i in self._session.get_inputs()}
        self._binding: Any = None
        self._output: NDArray[np.float32] | None = None

    def __call__(self, **inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the graph's first output; the inputs must have the shapes in `inputs`.

        The runtime reads contiguous inputs without a copy. It writes into the same array each time,
        so the next call overwrites the output.
        """
        if self._binding is None or self._output is None:
            output = self._session.get_outputs()[0]
            self._output = np.empty(output.shape, np.float32)
            self._binding = self._session.io_binding()
            self._binding.bind_ortvalue_output(
                output.name, ort.OrtValue.ortvalue_from_numpy(self._output)
            )
        # The binding does not keep arrays alive.
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        for name, array in arrays.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        try:
            self._session.run_with_iobinding(self._binding)
        finally:
            self._binding.clear_binding_inputs()
        return self._output


def _full_name(provider: str) -> str:
    return f"{provider}ExecutionProvider"


def _open(content: bytes, provider: str, precision: Precision) -> Any:
    """Return a session that runs on a provider; raise an exception of any type if that fails."""
    # Without "FP32", some CPUs use bfloat16 by default, and only 99 % of labels agree (measured).
    openvino = {"device_type": "CPU", "num_of_threads": str(granted_cpus())}
    if precision == "bfloat16" and has_bfloat16():
        openvino["load_config"] = json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}})
    else:
        openvino["precision"] = "FP32"
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = granted_cpus()
    options.inter_op_num_threads = 1
    # With the arena and its patterns, one 192³ window of a 32-filter DynUNet took 9.6 GB; without
    # them, 2 to 4 GB and no more time (measured).
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.use_deterministic_compute = True
    # Otherwise the bytes themselves could select ONNX Runtime's own format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    specific: dict[str, dict[str, str]] = {
        # TF32 has only ten bits of precision. The default search times all algorithms and may
        # choose another one at each start, so a second run could give different bytes.
        "CUDA": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
        "OpenVINO": openvino,
        "CPU": {},
    }
    with _silent_stderr():
        session = ort.InferenceSession(
            content,
            sess_options=options,
            providers=[(_full_name(provider), specific[provider])],
            enable_fallback=0,  # The built-in fallback prints.
        )
    if session.get_providers()[0] != _full_name(provider):
        raise RuntimeError("its libraries do not load")
    return session


def _load_cuda() -> None:
    """Load CUDA's libraries; a RuntimeError says what is missing.

    The driver is checked first, because ONNX Runtime writes to stderr if there is no driver.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise RuntimeError("no NVIDIA driver") from None
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        raise RuntimeError("the NVIDIA driver does not start")
    if count.value == 0:
        raise RuntimeError("no NVIDIA GPU")
    with redirect_stdout(io.StringIO()):  # It prints which libraries are missing.
        ort.preload_dlls()


def _first_line(error: Exception) -> str:
    """Return the message of an exception in one short line."""
    text = escaped(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 160 else text[:159] + "…"
