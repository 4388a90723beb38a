"""nnU-Net in an environment of its own, for the benchmarks that compare with it.

Each benchmark has a folder with the environment in `env`, and nnU-Net's raw, preprocessed and
trained data in `raw`, `pre` and `results`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

SIDE: Final = Path(__file__).with_name("nnunet_side.py")
NNUNET: Final = "nnunetv2==2.8.1"
TORCH: Final = "torch==2.13.0"
TRAINER: Final = "nnUNetTrainer__nnUNetPlans__3d_fullres"
CHECKPOINT: Final = "checkpoint_final.pth"


def make_environment(folder: Path) -> None:
    """Install nnU-Net into `folder/env`, unless it is there."""
    if (folder / "env/stamp").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    pip = [str(folder / "env/bin/python"), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, TORCH], check=True)
    (folder / "constraint.txt").write_text(TORCH + "\n", encoding="utf-8")
    subprocess.run([*pip, NNUNET, "psutil", "-c", str(folder / "constraint.txt")], check=True)
    (folder / "env/stamp").touch()


def run_nnunet(
    folder: Path,
    command: str,
    *,
    results: str = "results",
    threads: int | None = None,
    **arguments: Any,
) -> str:
    """Run a command of `nnunet_side`, and return its output.

    Parameters
    ----------
    results : name of the folder of trained networks in `folder`.
    threads : threads of torch; None leaves the number to torch.
    arguments : the arguments of the command.
    """
    environment = {
        **os.environ,
        "nnUNet_raw": str(folder / "raw"),
        "nnUNet_preprocessed": str(folder / "pre"),
        "nnUNet_results": str(folder / results),
        "nnUNet_n_proc_DA": "1",
        "nnUNet_compile": "f",
    }
    environment.pop("PYTHONPATH", None)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    # -P: this folder is not among those that it imports from.
    words = [str(folder / "env/bin/python"), "-P", str(SIDE), command, json.dumps(arguments)]
    return subprocess.run(
        words, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def results_folder(folder: Path, dataset: str, results: str = "results") -> Path:
    """Return the folder in which nnU-Net writes the folds of a data set."""
    return folder / results / dataset / TRAINER
