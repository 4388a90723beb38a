"""Run hostile cases: `python -m tests.fuzz inputs|submissions|models --cases N --seed S`.

Each case has a number. `--only NUMBER` runs one case again; `--first NUMBER` starts there. The exit
code is 1 if there is a defect.
"""

from __future__ import annotations

import argparse
import json
import pkgutil
import sys

import tests.fuzz
from tests.fuzz.core import CHILD_MEMORY_BYTES, describe, run, run_in_child

KINDS = sorted(
    module.name
    for module in pkgutil.iter_modules(tests.fuzz.__path__)
    if module.name != "core" and not module.name.startswith(("_", "test_"))
)
"""Every module is a kind, except `core`, tests, and helpers, whose names begin with `_`."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run hostile cases and count the defects.")
    parser.add_argument("kind", help=" or ".join(KINDS))
    parser.add_argument("--cases", type=int, default=300, help="number of cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="run only the case with this number")
    parser.add_argument("--workers", type=int, default=2, help="child processes at a time")
    parser.add_argument("--memory-bytes", type=int, default=CHILD_MEMORY_BYTES)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> int:
    arguments_parser = parser()
    options = arguments_parser.parse_args()
    if options.child:
        run_in_child(
            options.kind,
            numbers=json.load(sys.stdin),
            seed=options.seed,
            memory_bytes=options.memory_bytes,
        )
        return 0
    if options.kind not in KINDS:
        arguments_parser.error(f"expected {', '.join(KINDS)}, found {options.kind}")
    only = options.only is not None
    first = options.only if only else options.first
    results = run(
        options.kind,
        numbers=range(first, first + (1 if only else options.cases)),
        seed=options.seed,
        workers=options.workers,
        memory_bytes=options.memory_bytes,
    )
    lines, defects = describe(results)
    print(*lines, sep="\n")
    return 1 if defects else 0


if __name__ == "__main__":
    raise SystemExit(main())
