from __future__ import annotations

import ctypes
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shared.errors import ModelError
from shared.models import onnx
from shared.models.onnx import Network
from shared.resources import granted_cpus
from tests.shared.models.small_networks import random_unet

EMPTY_GRAPH = b"\x08\x0a\x3a\x00"


class FakeSession:
    """Replaces a session of ONNX Runtime, and records the providers that it was opened with."""

    opened: list[tuple[str, dict[str, str]]]
    broken: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()

    def __init__(
        self,
        content: bytes,
        sess_options: object,
        providers: list[tuple[str, dict[str, str]]],
        enable_fallback: int,
    ) -> None:
        assert enable_fallback == 0
        name, options = providers[0]
        FakeSession.opened.append((name, options))
        if name in self.broken:
            raise RuntimeError(f"{name} says\nno \x1b[2J")
        self.providers = ["CPUExecutionProvider"] if name in self.dropped else [name]

    def get_providers(self) -> list[str]:
        return self.providers

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="image", shape=[1, 2, 3, 4, 5])]

    get_outputs = get_inputs


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    """Replace ONNX Runtime's session; all providers seem to be built in, and CUDA to load."""
    monkeypatch.setattr(FakeSession, "opened", [], raising=False)
    monkeypatch.setattr(FakeSession, "broken", frozenset())
    monkeypatch.setattr(FakeSession, "dropped", frozenset())
    monkeypatch.setattr(onnx.ort, "InferenceSession", FakeSession)
    everything = [f"{p}ExecutionProvider" for p in ("Tensorrt", *onnx.PROVIDERS)]
    monkeypatch.setattr(onnx.ort, "get_available_providers", lambda: everything)
    monkeypatch.setattr(onnx, "_load_cuda", lambda: None)
    monkeypatch.setattr(onnx, "read_graph", lambda path, sha256: b"")
    return FakeSession


def test_cuda_is_preferred(sessions: type[FakeSession]) -> None:
    network = Network(Path("model.onnx"))
    assert (network.provider, network.remarks) == ("CUDA", ())
    assert [name for name, _ in sessions.opened] == ["CUDAExecutionProvider"]
    assert network.inputs == {"image": (1, 2, 3, 4, 5)}


@pytest.mark.usefixtures("sessions")
def test_without_a_driver_the_next_provider_runs_with_a_remark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_driver() -> None:
        raise RuntimeError("no NVIDIA driver")

    monkeypatch.setattr(onnx, "_load_cuda", no_driver)
    network = Network(Path("model.onnx"))
    assert network.provider == "OpenVINO"
    assert network.remarks == ("CUDA is not usable here (no NVIDIA driver); running on OpenVINO",)


def test_gpu_build_without_a_gpu_runs_on_the_cpu(
    sessions: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnx.ort, "get_available_providers", lambda: available)
    monkeypatch.setattr(sessions, "broken", frozenset({"CUDAExecutionProvider"}))
    network = Network(Path("model.onnx"))
    assert network.provider == "CPU"
    assert network.remarks == (
        "CUDA is not usable here (CUDAExecutionProvider says no \\x1b[2J); running on CPU",
    )


def test_provider_that_the_runtime_drops_silently_gives_a_remark(
    sessions: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sessions, "dropped", frozenset({"CUDAExecutionProvider", "OpenVINOExecutionProvider"})
    )
    network = Network(Path("model.onnx"))
    assert network.provider == "CPU"
    assert [remark.split(" is ")[0] for remark in network.remarks] == ["CUDA", "OpenVINO"]


def test_file_that_no_provider_loads_is_an_error(
    sessions: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_them = frozenset(f"{p}ExecutionProvider" for p in onnx.PROVIDERS)
    monkeypatch.setattr(sessions, "broken", all_of_them)
    with pytest.raises(ModelError, match=r"cannot load it: .* says no \\x1b\[2J; export"):
        Network(Path("model.onnx"))


def test_openvino_computes_in_float32_on_the_granted_cpus(sessions: type[FakeSession]) -> None:
    Network(Path("model.onnx"), ("OpenVINO",))
    _, options = sessions.opened[0]
    assert options["precision"] == "FP32"
    assert options["num_of_threads"] == str(granted_cpus())


@pytest.mark.parametrize("is_fast", [True, False])
def test_openvino_computes_in_bfloat16_only_where_the_cpu_can(
    sessions: type[FakeSession], monkeypatch: pytest.MonkeyPatch, is_fast: bool
) -> None:
    monkeypatch.setattr(onnx, "has_bfloat16", lambda: is_fast)
    Network(Path("model.onnx"), ("OpenVINO",), precision="bfloat16")
    _, options = sessions.opened[0]
    if is_fast:
        assert json.loads(options["load_config"]) == {"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}
    assert ("precision" in options) is not is_fast


def test_precision_of_other_providers_is_float32(sessions: type[FakeSession]) -> None:
    for provider in ("CUDA", "CPU"):
        Network(Path("model.onnx"), (provider,), precision="bfloat16")
    cuda, cpu = (options for _, options in sessions.opened)
    assert (cuda["use_tf32"], cpu) == ("0", {})


def test_missing_driver_is_detected_before_the_runtime_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", nothing)
    with pytest.raises(RuntimeError, match="no NVIDIA driver"):
        onnx._load_cuda()


@pytest.mark.parametrize(
    ("started", "gpus", "message"),
    [(100, 0, "does not start"), (0, 0, "no NVIDIA GPU")],
)
def test_driver_without_a_gpu_is_not_enough(
    monkeypatch: pytest.MonkeyPatch, started: int, gpus: int, message: str
) -> None:
    def count(pointer: object) -> int:
        return 0

    driver = SimpleNamespace(cuInit=lambda flags: started, cuDeviceGetCount=count)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    with pytest.raises(RuntimeError, match=message):
        onnx._load_cuda()


def test_output_of_preloading_cuda_is_hidden(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def one_gpu(pointer: object) -> int:
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = 1  # type: ignore[arg-type]
        return 0

    driver = SimpleNamespace(cuInit=lambda flags: 0, cuDeviceGetCount=one_gpu)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    monkeypatch.setattr(onnx.ort, "preload_dlls", lambda: print("Failed to load libcudnn"))
    onnx._load_cuda()
    assert capfd.readouterr() == ("", "")


def test_all_providers_of_this_machine_agree_with_torch(segmentation_folder: Path) -> None:
    image = np.random.default_rng(0).normal(size=(1, 2, 16, 16, 16)).astype(np.float32)
    with torch.no_grad():
        expected = random_unet(0)(torch.from_numpy(image)).numpy()
    for providers in (onnx.PROVIDERS, ("CPU",)):
        network = Network(segmentation_folder / "model.onnx", providers)
        np.testing.assert_allclose(network(image=image), expected, atol=1e-3)
        assert network.remarks == ()
        assert network.inputs == {"image": image.shape}


def test_inputs_of_any_layout_are_read_and_the_output_is_overwritten(
    segmentation_folder: Path,
) -> None:
    network = Network(segmentation_folder / "model.onnx")
    volume = np.random.default_rng(0).normal(size=(1, 2, 40, 16, 16)).astype(np.float32)
    first = network(image=volume[:, :, :16])
    kept = first.copy()
    second = network(image=volume[:, :, 20:36])
    assert second is first
    assert not np.array_equal(second, kept)
    np.testing.assert_array_equal(network(image=volume[:, :, :16].copy()), kept)


def test_broken_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"model\.onnx is not a valid ONNX file"):
        Network(path)
    path.write_bytes(EMPTY_GRAPH)
    with pytest.raises(ModelError, match=r"model\.onnx, but ONNX Runtime cannot load it"):
        Network(path)


def test_only_the_file_of_the_card_is_loaded(segmentation_folder: Path) -> None:
    path = segmentation_folder / "model.onnx"
    Network(path, ("CPU",), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ModelError, match=r"model\.onnx is not the file its card was written for"):
        Network(path, ("CPU",), sha256="0" * 64)


def test_nothing_reaches_stdout_or_stderr(segmentation_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(EMPTY_GRAPH)
    code = f"""
import numpy as np
from pathlib import Path
from shared.errors import ModelError
from shared.models import onnx
onnx._load_cuda = lambda: None
built_with = onnx.ort.get_available_providers()
onnx.ort.get_available_providers = lambda: ["CUDAExecutionProvider", *built_with]
network = onnx.Network(Path({str(segmentation_folder / "model.onnx")!r}))
network(image=np.zeros((1, 2, 16, 16, 16), np.float32))
try:
    onnx.Network(Path({str(broken)!r}))
except ModelError:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
