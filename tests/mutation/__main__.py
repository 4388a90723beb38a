"""Mutation testing: change a module in one place at a time and report what no test catches.

    .venv/bin/python -m pip install cosmic-ray==8.7.0
    .venv/bin/python -m tests.mutation shared/geometry.py
    .venv/bin/python -m tests.mutation shared/metrics/survival.py --mutants 40 --seed 1

The changes come from cosmic-ray: comparisons and their boundaries, numbers and defaults,
arithmetic, Boolean operators, an added or removed `not`. cosmic-ray's own command changes the
working tree and starts Python for each mutant. Here the tests run in a copy of the tree, in a fork
of a process that has already imported the libraries. mutmut 3.8 also works with this project, but
it does not change constants, defaults of dataclasses and decorated methods.

Each line of the output is a mutant that survived or exceeded the time limit: the place, the
operator and the changed line. A mutant that exceeds the limit counts as caught, because most such
mutants loop forever; on a busy machine, run the command again. For each mutant that survived, write
a test that fails for it. If no caller can observe the change, add the mutant to `equivalent.txt` in
this folder with the reason; the mutants listed there are not run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import multiprocessing
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from tests.tree import ROOT, copy_tree

EQUIVALENT = Path(__file__).with_name("equivalent.txt")

OPERATORS = re.compile(
    r"core/(NumberReplacer|AddNot|ReplaceTrueWithFalse|ReplaceFalseWithTrue|ReplaceAndWithOr"
    r"|ReplaceOrWithAnd|ReplaceBreakWithContinue|ReplaceContinueWithBreak|ZeroIterationForLoop"
    r"|ReplaceUnaryOperator_(Delete_\w+|USub_UAdd)"
    r"|ReplaceComparisonOperator_(Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Lt_GtE|LtE_Gt|Gt_LtE|GtE_Lt|Eq_NotEq"
    r"|NotEq_Eq|Is_IsNot|IsNot_Is)"
    r"|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Pow_Mul|Mod_Add"
    r"|BitAnd_BitOr|BitOr_BitAnd))"
)
"""One or two changes for each operator of the language. cosmic-ray has up to eleven, but most of
them fail at once, such as a bit shift of floats."""

NO_BEHAVIOUR = re.compile(
    r"\b(frozen|kw_only|strict)= ?False\b|& None\b|[A-Z]\w+ & [A-Z]|^\s*/,$|, /, "
)
"""Changes that do not affect correct code: guards against programming errors, types, and `*` in
signatures."""

OPTIONS = [
    *("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
    # Hypothesis is imported before pytest starts, which is harmless.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
]


@dataclass(frozen=True)
class Mutant:
    """A module with one change: the whole source, and the changed line."""

    source: str
    line_number: int
    line: str
    operator: str

    @property
    def key(self) -> str:
        """The name of this mutant in `equivalent.txt`, without line numbers, which can change."""
        return f"{self.operator}: {self.line.strip()}"


def mutants_of(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module; docstrings and comments stay as they are."""
    nodes = list(ast_nodes(get_ast(source)))
    for name in filter(OPERATORS.fullmatch, operator_names()):
        operator = get_operator(name)()
        positions = [p for node in nodes for p in operator.mutation_positions(node)]
        for occurrence, ((line_number, _), _) in enumerate(positions):
            mutated = mutate_code(source, get_operator(name)(), occurrence)
            line = mutated.splitlines()[line_number - 1]
            if not NO_BEHAVIOUR.search(line):
                yield Mutant(mutated, line_number, line, name.removeprefix("core/"))


def tests_of(module: Path) -> list[str]:
    """Return the test file of a module, or the folder of its package if it has no file."""
    mirrored = Path("tests") / module.with_name(f"test_{module.stem}.py")
    return [str(mirrored if (ROOT / mirrored).is_file() else mirrored.parent)]


def run_tests(folder: Path, tests: list[str], sender: Connection) -> None:
    """Run tests in a copy, send the names of the libraries they import, exit 1 if a test fails."""
    os.chdir(folder)
    os.setpgid(0, 0)
    sys.dont_write_bytecode = True  # bytecode of another mutant could have the same time and size
    sys.path[:] = [str(folder), *(p for p in sys.path if Path(p).resolve() != ROOT)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    before = set(sys.modules)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        code = pytest.main([*OPTIONS, *tests])
    libraries = {
        name
        for name, module in sys.modules.items()
        if name not in before and "site-packages" in (getattr(module, "__file__", None) or "")
    }
    sender.send(sorted(name for name in libraries if "." not in name))
    os._exit(int(code != pytest.ExitCode.OK))


def passes(
    folder: Path, tests: list[str], timeout_s: float | None
) -> tuple[bool | None, list[str]]:
    """Run tests in a fork of this process.

    Returns
    -------
    Whether the tests pass, or None if they did not end in time; and the libraries they import.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_tests, args=(folder, tests, sender))
    process.start()
    process.join(timeout_s)
    if process.is_alive() and process.pid is not None:
        os.killpg(process.pid, 9)
        process.join()
        return None, []
    libraries = receiver.recv() if receiver.poll() else []
    return process.exitcode == 0, libraries


def equivalent_mutants(module: Path) -> set[str]:
    """Return the keys of the mutants of a module that are listed as equivalent."""
    if not EQUIVALENT.is_file():
        return set()
    keys = set()
    for line in EQUIVALENT.read_text("utf-8").splitlines():
        name, _, rest = line.partition(" | ")
        if name == str(module):
            keys.add(rest.rpartition(" | ")[0])
    return keys


def main() -> None:
    """Test the mutants of one module and print those that survive."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("module", type=Path, help="source file, such as shared/geometry.py")
    parser.add_argument("--tests", nargs="+", help="tests to run (default: those of the module)")
    parser.add_argument("--mutants", type=int, help="how many to draw (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    options = parser.parse_args()
    module = options.module.resolve().relative_to(ROOT)
    tests = options.tests or tests_of(module)
    equivalent = equivalent_mutants(module)
    mutants = [m for m in mutants_of((ROOT / module).read_text("utf-8")) if m.key not in equivalent]
    if options.mutants is not None and options.mutants < len(mutants):
        mutants = random.Random(options.seed).sample(mutants, options.mutants)
    mutants.sort(key=lambda mutant: mutant.line_number)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copy_tree(folder)
        _, libraries = passes(folder, tests, None)
        for library in libraries:
            with contextlib.suppress(Exception):
                importlib.import_module(library)
        start = time.monotonic()
        if not passes(folder, tests, None)[0]:
            sys.exit(f"{' '.join(tests)} fail without a mutation; fix them first")
        timeout_s = 10 + 5 * (time.monotonic() - start)
        survivors = timeouts = 0
        for mutant in mutants:
            (folder / module).write_text(mutant.source, "utf-8")
            result, _ = passes(folder, tests, timeout_s)
            survivors += result is True
            timeouts += result is None
            if result is not False:
                note = "" if result else " (time limit)"
                print(f"{module}:{mutant.line_number}: {mutant.key}{note}", flush=True)
    print(
        f"{module}: {len(mutants) - survivors} of {len(mutants)} mutants caught by {tests}, "
        f"{timeouts} of them by the time limit of {timeout_s:.0f} s"
    )


if __name__ == "__main__":
    main()
