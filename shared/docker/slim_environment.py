"""Remove the quarter of an image's Python environment that inference does not use.

Runs in the build stage of the Dockerfiles and uses only the standard library. It removes:

- test suites, headers, static libraries, the tools of ONNX Runtime that convert and quantise
  models, and SymPy, which only these tools use;
- ONNX Runtime's C library (the Python module contains its own) and OpenVINO's plugins for devices
  other than CPUs;
- copies of libraries, which are replaced by links: a wheel cannot contain links, so OpenVINO's
  wheel has three copies of each library;
- debug sections and symbol tables, which come after everything that the loader reads.
"""

import hashlib
import shutil
import struct
import sys
from pathlib import Path

UNUSED = (
    "**/tests",
    "**/include",
    "**/*.a",
    "sympy*",
    "mpmath*",
    "isympy.py",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "onnxruntime/capi/libonnxruntime.so.*",
    "onnxruntime/capi/libopenvino_intel_gpu_plugin.so",
    "onnxruntime/capi/libopenvino_intel_npu_plugin.so",
)
WITH_SYMBOLS = ("cc3d/*.so", "onnxruntime/capi/*.so")

ELF_HEADER = struct.Struct("<4s2B10s2HI3QI6H")
PROGRAM_HEADER = struct.Struct("<2I6Q")


def remove_unused(packages: Path) -> None:
    """Delete the files and folders that match `UNUSED`."""
    for pattern in UNUSED:
        for path in list(packages.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def link_repeated(packages: Path) -> None:
    """Replace copies of a library in the same folder by links to the first one."""
    originals: dict[tuple[Path, str], Path] = {}
    for path in sorted(packages.glob("**/*.so*")):
        if path.is_symlink() or not path.is_file():
            continue
        key = (path.parent, hashlib.sha256(path.read_bytes()).hexdigest())
        original = originals.setdefault(key, path)
        if original != path:
            path.unlink()
            path.symlink_to(original.name)


def strip(path: Path) -> None:
    """Remove everything after the last byte that the segments of a 64-bit ELF library use.

    The loader reads segments; only linkers and debuggers use sections, whose table is at the end.
    """
    content = path.read_bytes()
    header = list(ELF_HEADER.unpack_from(content))
    magic, bits, byte_order = header[:3]
    if (magic, bits, byte_order) != (b"\x7fELF", 2, 1):
        return
    segments_at, sections_at, segment_count = header[8], header[9], header[13]
    end = segments_at + segment_count * PROGRAM_HEADER.size
    for i in range(segment_count):
        segment = PROGRAM_HEADER.unpack_from(content, segments_at + i * PROGRAM_HEADER.size)
        offset, size_in_file = segment[2], segment[5]
        end = max(end, offset + size_in_file)
    if sections_at < end:
        return
    header[9] = header[15] = header[16] = 0  # offset, size and names of the table of sections
    path.write_bytes(ELF_HEADER.pack(*header) + content[ELF_HEADER.size : end])


def main(environment: Path) -> None:
    """Remove the unused parts of an environment."""
    (packages,) = environment.glob("lib/python3.*/site-packages")
    remove_unused(packages)
    link_repeated(packages)
    for pattern in WITH_SYMBOLS:
        for path in packages.glob(pattern):
            if not path.is_symlink():
                strip(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
