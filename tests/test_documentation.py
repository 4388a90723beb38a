"""The documentation is correct: links lead somewhere, files exist, commands parse, examples run.

Commands are checked against the parsers of the programs, but not run. After a command or option has
been renamed, this test fails and names the file and line with the old name.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
ROOMS = ("docs", "evaluation", "prediction", "shared", "task1_segmentation", "task2_survival",
         "task3_hpv", "tests", "training")  # fmt: skip
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for room in ROOMS for page in ROOT.glob(f"{room}/**/*.md"))]
)
HISTORY = (ROOT / "CHANGELOG.md",)
"""Pages that may name files and commands of the past."""

PROGRAMS = ("training", "evaluation", "prediction")
SOURCE_SUFFIXES = (".py", ".toml", ".md", ".sh", ".in", ".lock", ".svg", ".j2")
SEPARATORS = {"&&", "||", "|", ";", "(", ")"}

# Where the options of a script are parsed, if not in the script itself.
USAGES = {
    "do_build.sh": ("shared/docker/build.sh",),
    "do_save.sh": ("shared/docker/save.sh", "shared/docker/build.sh"),
    "do_test_run.sh": ("tests/containers/__main__.py",),
    "test_containers.sh": ("tests/containers/__main__.py",),
}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A code block of a page; `language` is empty for commands."""

    page: Path
    line: int
    language: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line of a page; only those in code blocks are complete."""

    page: Path
    line: int
    words: tuple[str, ...]
    is_complete: bool

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}: {' '.join(self.words)}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    start, language = 0, None
    for number, line in enumerate(lines, start=1):
        if not line.startswith("```"):
            continue
        if language is None:
            start, language = number, line.removeprefix("```").strip()
        else:
            text = "\n".join(lines[start : number - 1])
            yield Block(page=page, line=start + 1, language=language, text=text)
            language = None
    assert language is None, f"{name_of(page)}:{start}: the code block is not closed"


def prose_of(page: Path) -> list[str]:
    """Return the lines of a page; lines of code blocks are empty."""
    inside, lines = False, []
    for line in page.read_text(encoding="utf-8").splitlines():
        inside ^= line.startswith("```")
        lines.append("" if inside or line.startswith("```") else line)
    return lines


def inline_code(page: Path) -> Iterator[tuple[int, str]]:
    """Yield the code between single backticks; it may continue on the next line."""
    text = "\n".join(prose_of(page))
    for match in re.finditer(r"`([^`]+)`", text):
        yield text.count("\n", 0, match.start()) + 1, " ".join(match[1].split())


def commands_of_block(block: Block) -> Iterator[Command]:
    text = block.text.replace("\\\n", "  ")
    number = block.line
    for line, raw in zip(text.splitlines(), _joined(block.text), strict=True):
        for words in _split(line):
            yield Command(page=block.page, line=number, words=words, is_complete=True)
        number += raw


def _joined(text: str) -> list[int]:
    """Return over how many lines each command is written."""
    counts, count = [], 0
    for line in text.splitlines():
        count += 1
        if not line.endswith("\\"):
            counts.append(count)
            count = 0
    return counts


def _split(line: str) -> Iterator[tuple[str, ...]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.wordchars += ":,@%[]{}"
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in SEPARATORS:
            if words:
                yield tuple(words)
            words = []
        else:
            words.append(word)


def commands() -> list[Command]:
    found = []
    for page in PAGES:
        if page in HISTORY:
            continue
        for block in blocks_of(page):
            if block.language in ("", "sh", "bash"):
                found += commands_of_block(block)
        for line, code in inline_code(page):
            if re.match(r"(python -m|\./|\S+/\w+\.sh)", code):
                found += [
                    Command(page=page, line=line, words=words, is_complete=False)
                    for words in _split(code)
                ]
    return found


@cache
def parser_of(name: str) -> Any:
    """Return the Typer command or the argparse parser of a module.

    Returns None if the module needs a package that is not among the dependencies.
    """
    try:
        module = _module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ROOMS:
            raise
        return None
    if hasattr(module, "app"):
        return typer.main.get_command(module.app)
    if hasattr(module, "parser"):
        return module.parser()
    if not hasattr(module, "main"):
        return argparse.ArgumentParser(prog=name)  # the program takes no arguments
    app = typer.Typer()
    app.command()(module.main)
    return typer.main.get_command(app)


def _module(name: str) -> ModuleType:
    module = importlib.import_module(name)
    return importlib.import_module(f"{name}.__main__") if hasattr(module, "__path__") else module


def options_in(words: tuple[str, ...]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]


def check_module_command(command: Command, name: str, arguments: tuple[str, ...]) -> None:
    if "--help" in arguments:
        arguments = tuple(word for word in arguments if word != "--help")
        command = Command(**{**vars(command), "is_complete": False})
    parser = parser_of(name)
    if parser is None:
        source = _source_of(name)
        for option in options_in(arguments):
            assert f'"{option}"' in source, f"{command}: {name} has no option {option}"
        return
    if isinstance(parser, argparse.ArgumentParser):
        known = set(parser._option_string_actions)
        unknown = [option for option in options_in(arguments) if option not in known]
        assert not unknown, f"{command}: {name} has no option {', '.join(unknown)}"
        if command.is_complete:
            parser.parse_args(arguments)
        return
    if hasattr(parser, "commands"):
        if not arguments:
            assert not command.is_complete, f"{command}: expected a command of {name}"
            return
        first, rest = arguments[0], arguments[1:]
        if first.startswith("-"):
            rest = arguments
        else:
            assert first in parser.commands, f"{command}: {name} has no command {first}"
            parser, arguments = parser.commands[first], rest
    known = {option for each in parser.params for option in (*each.opts, *each.secondary_opts)}
    unknown = [option for option in options_in(arguments) if option not in known]
    assert not unknown, f"{command}: {name} has no option {', '.join(unknown)}"
    if command.is_complete:
        try:
            parser.make_context(name, list(arguments))
        except typer.exceptions.TyperException as error:
            pytest.fail(f"{command}: {error}")


def _source_of(name: str) -> str:
    path = ROOT / name.replace(".", "/")
    return (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")


def check_script_command(command: Command) -> None:
    script = _existing(command.page, command.words[0])
    assert script is not None, f"{command}: there is no such file"
    assert os.access(script, os.X_OK), f"{command}: the file cannot be executed"
    if script.name == "run_tests.sh":
        return  # its options are those of pytest
    usage = "".join(
        (ROOT / path).read_text(encoding="utf-8")
        for path in USAGES.get(script.name, (name_of(script),))
    )
    for option in options_in(command.words[1:]):
        # The whole word is compared, so that --net does not match --network.
        assert re.search(rf"{re.escape(option)}(?![\w-])", usage), (
            f"{command}: {script.name} has no option {option}"
        )


def _existing(page: Path, text: str) -> Path | None:
    """Return the file or folder that a page names, relative to the page or to the root.

    For a pattern, return the first match.
    """
    for folder in (page.parent, ROOT):
        if (folder / text).exists():
            return (folder / text).resolve()
        if "*" in text and (matches := sorted(folder.glob(text))):
            return matches[0]
    return None


def module_and_arguments(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
    """Return the words after `-m` of `python -m`, which may follow a launcher such as srun."""
    for place, word in enumerate(words[:-1]):
        if word == "-m" and words[place + 1].partition(".")[0] in (*PROGRAMS, "tests"):
            return words[place + 1], words[place + 2 :]
    return None


def headings_of(page: Path) -> set[str]:
    """Return the anchors that GitHub creates for the headings of a page."""
    titles = [line.lstrip("#").strip() for line in prose_of(page) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def is_path(text: str) -> bool:
    """Whether inline code is the path of a file of this repository."""
    if not re.fullmatch(r"[\w.*/-]+", text) or text.startswith(("/", "../", "-", ".")):
        return False
    if re.fullmatch(r"task\w+/\w+\.(json|csv)", text):
        return False  # in a folder of results, which has one folder for each algorithm
    first = text.partition("/")[0]
    if "/" in text:
        return bool(first in ROOMS or first.rstrip("*").startswith("task"))
    return text.endswith(SOURCE_SUFFIXES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = "\n".join(prose_of(page))
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        file = page if not path else (page.parent / path).resolve()
        assert file.exists(), f"{name_of(page)} links to {target}, which does not exist"
        if anchor:
            assert anchor in headings_of(file), f"{name_of(page)}: no heading for #{anchor}"


@pytest.mark.parametrize("page", [p for p in PAGES if p not in HISTORY], ids=name_of)
def test_files_named_in_the_text_exist(page: Path) -> None:
    missing = [
        f"{name_of(page)}:{line}: {code}"
        for line, code in inline_code(page)
        if is_path(code) and _existing(page, code) is None
    ]
    assert not missing, "no such file: " + "; ".join(missing)


@pytest.mark.parametrize("page", [p for p in PAGES if p not in HISTORY], ids=name_of)
def test_names_that_the_text_places_in_a_file_are_there(page: Path) -> None:
    text = " ".join("\n".join(prose_of(page)).split())
    for names, path in re.findall(r"((?:`[\w.]+`(?:,| and)? )+)in `([\w/.]+\.py)`", text):
        source = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(?:\w+\.)*(\w+)`", names):
            assert re.search(rf"(def|class) {name}\b|^{name}\b", source, re.MULTILINE), (
                f"{name_of(page)}: {path} has no {name}"
            )


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    files = [*ROOT.glob("task*/requirements*.in"), *ROOT.glob("evaluation/requirements*.in")]
    groups += [file.read_text(encoding="utf-8").splitlines() for file in files]
    lines = [line for group in groups for line in group if re.match(r"\w", line)]
    packages = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines}
    _, _, chapter = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Dependencies")
    rows = re.findall(r"^\| ([\w, -]+?) \| \w", chapter, flags=re.MULTILINE)
    listed = {name for row in rows for name in row.split(", ")} - {"package"}
    assert packages == listed


def test_the_tree_of_the_house_is_the_tree_on_disk() -> None:
    (tree,) = (b for b in blocks_of(ROOT / "CONTRIBUTING.md") if b.language == "tree")
    folders: list[tuple[int, Path]] = []
    named = set()
    for line in tree.text.splitlines():
        match = re.match(r"( *)(\S.*?)(?:  |$)", line)
        assert match is not None, line
        indent = len(match[1])
        folders = [entry for entry in folders if entry[0] < indent]
        parent = folders[-1][1] if folders else ROOT
        for name in match[2].split():
            assert (parent / name).exists(), f"{line}: {name} is not in {parent}"
            named.add((parent / name).resolve())
            if name.endswith("/"):
                folders.append((indent, parent / name))
    packages = {
        file.parent
        for room in ("shared", "training")
        for file in ROOT.glob(f"{room}/*/__init__.py")
    }
    assert packages <= named, f"not in the tree: {sorted(map(str, packages - named))}"


@pytest.mark.parametrize("command", commands(), ids=str)
def test_commands_in_the_text_parse(command: Command) -> None:
    found = module_and_arguments(command.words)
    if found is not None:
        check_module_command(command, *found)
    elif command.words[0].endswith(".sh"):
        check_script_command(command)


def test_scripts_of_the_readme_run_in_ci() -> None:
    scripts = {c.words[0] for c in commands() if c.page == README and c.words[0].startswith("./")}
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert scripts == {"./run_tests.sh", "./test_containers.sh"}
    assert all(re.search(rf"^  {re.escape(script)}\b", ci, re.MULTILINE) for script in scripts)


def test_commands_were_found() -> None:
    found = [command for command in commands() if module_and_arguments(command.words)]
    assert len(found) > 40
    assert {c.page for c in found} >= {README, ROOT / "docs/submit.md", ROOT / "docs/results.md"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_runs(program: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-m", program, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "Usage" in finished.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_of_every_command_runs(program: str) -> None:
    app = _module(program).app
    for name in typer.main.get_command(app).commands:
        result = CliRunner().invoke(app, [name, "--help"])
        assert result.exit_code == 0, (name, result.output)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-m", "training", "baselines", "--un"), ["--unseen"]),
        (("-m", "evaluation", "sc"), ["score"]),
        (("-m", "prediction", "run", "--wei"), ["--weight-kg"]),
        (("-m", "pytest", "ba"), []),
    ],
)
def test_tab_completes_commands_and_options(words: tuple[str, ...], expected: list[str]) -> None:
    script = """
        source completion.sh
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _hecktor_complete
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    finished = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.split() == expected


def test_every_training_command_is_in_its_readme() -> None:
    text = (ROOT / "training/README.md").read_text(encoding="utf-8")
    table = " ".join(re.findall(r"^\| (`.*?`) .*\|", text, flags=re.MULTILINE))
    for name in typer.main.get_command(_module("training").app).commands:
        assert re.search(rf"`{name}\b", table), f"training/README.md has no row for {name}"


def test_the_python_examples_run_one_after_another() -> None:
    blocks = [b for b in blocks_of(ROOT / "docs/python.md") if b.language == "python"]
    (example,) = (b for b in blocks_of(README) if b.language == "python")
    assert example.text == blocks[0].text
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(block.text for block in blocks)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    first, *lesions, remarks, description = finished.stdout.splitlines()
    probability, risk = (float(text) for text in re.findall(r"-?\d+\.\d+|nan|inf", first))
    assert 0 < probability < 1
    assert math.isfinite(risk)
    assert {line.split()[0] for line in lesions} == {"GTVp", "GTVn"}
    assert "region" in remarks
    assert "segmentation model" in description


def test_a_renamed_option_or_command_would_be_noticed() -> None:
    for words in (
        ("python", "-m", "training", "segmentation", "COHORT", "RUNS", "--fodls", "5"),
        ("python", "-m", "training", "rivals", "hpv", "COHORT", "RUNS"),
        ("python", "-m", "training", "segmentation", "COHORT"),
    ):
        command = Command(page=README, line=1, words=words, is_complete=True)
        found = module_and_arguments(words)
        assert found is not None
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check_module_command(command, *found)
    script = Command(
        page=README, line=1, words=("./test_containers.sh", "--cases", "x"), is_complete=True
    )
    with pytest.raises(AssertionError):
        check_script_command(script)
