"""An algorithm without networks: the EHR's key "do" says what it does with a case.

It writes the EHR's age as the risk, so that the output shows which case was answered. Run as a
script, it is the entry point of an image.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from shared.editions import CURRENT
from shared.errors import InputError, ModelError
from shared.grand_challenge.job import log, main
from shared.grand_challenge.outputs import PARTIAL_PREFIX, write_risk

NOT_UTF8 = b"caf\xe9".decode("utf-8", "surrogateescape")
"""A file name as Python reads it from a disk whose names are not in UTF-8."""
LONG = "ä" * 100_000


def init_model(folder: Path) -> list[int]:
    """Return an empty list in place of models."""
    print("loading")
    if folder.name == "broken":
        raise ModelError(f"expected a card in {folder}, found none")
    return []


def run(model: list[int], input_dir: Path, output_dir: Path) -> None:
    ehr = json.loads((input_dir / "ehr.json").read_bytes())
    environment = sorted(name for name in os.environ if name.startswith(("AWS_", "HOME", "GRAND_")))
    log(f"environment: {' '.join(environment)}")
    ACTIONS[ehr.get("do", "nothing")](output_dir)
    write_risk(output_dir, ehr["Age"], CURRENT)


def refuse(_: Path) -> None:
    raise InputError("expected an age,\nfound none; add it")


def break_down(_: Path) -> None:
    raise ZeroDivisionError("by nothing")


def print_any_text(_: Path) -> None:
    log(f"file {NOT_UTF8}", LONG)
    print(NOT_UTF8)
    warnings.warn(f"about {NOT_UTF8}", RuntimeWarning, stacklevel=1)


def refuse_any_text(_: Path) -> None:
    raise InputError(f"file {NOT_UTF8} {LONG}")


def exhaust_memory(_: Path) -> None:
    raise MemoryError


def exhaust_memory_in_c(_: Path) -> None:
    raise RuntimeError("Exception thrown in SimpleITK Cast: Failed to allocate memory for image.")


def leave_a_dangling_link(output_dir: Path) -> None:
    (output_dir / CURRENT.outputs["survival"].path).symlink_to(output_dir / "nowhere")


def use_memory(_: Path) -> None:
    bytearray(os.urandom(1)) * 400_000_000


def wait(_: Path) -> None:
    log("waiting")
    time.sleep(1)


def stay_in_c(output_dir: Path) -> None:
    """Write a part of a file, then stay in C code for minutes."""
    output_dir.mkdir(exist_ok=True)
    folder = output_dir / f"{PARTIAL_PREFIX}file"
    folder.mkdir()
    (folder / "output.mha").write_bytes(b"half")
    log("in C code")
    hashlib.pbkdf2_hmac("sha512", b"", b"", 2**31 - 1)


def use_processes(_: Path) -> None:
    """Use a pool; at its end, it sends SIGTERM to its processes."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(abs, range(10))


ACTIONS: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda _: None,
    "refuse": refuse,
    "break down": break_down,
    "print any text": print_any_text,
    "refuse any text": refuse_any_text,
    "leave a dangling link": leave_a_dangling_link,
    "exhaust memory": exhaust_memory,
    "exhaust memory in C": exhaust_memory_in_c,
    "use memory": use_memory,
    "use processes": use_processes,
    "wait": wait,
    "stay in C": stay_in_c,
}


if __name__ == "__main__":
    raise SystemExit(main(init_model, run, baked_model=Path("baked")))
