"""The inputs of each container's program under the platform's runtime: good, bad and uploaded.

A trial of an algorithm uses two sample cases. A trial of the evaluation uses the expected outputs
of two algorithms for the sample cases.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.running.case_folders import CaseFolder
from evaluation.running.programs import Program, stage_models
from tests.containers import checks
from tests.containers.checks import Check
from tests.containers.contract import ALGORITHMS, EVALUATION, Contract
from tests.containers.submission import check_metrics, stage
from tests.shared.grand_challenge.platform_case import listed

MARK = "This notice is the test's own."


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The inputs of a program, and what is expected of it.

    Attributes
    ----------
    contract : contract of the container.
    good : two input folders, by the name of the job.
    bad, bad_words : an input folder that must be rejected, and part of the line on stderr.
    uploaded : folder whose files are uploaded as a tarball.
    needs_upload : whether the program cannot run without the tarball.
    mark : a line of the log that shows that the tarball was used; None if outputs show it.
    remarks : by job, words that its log must contain.
    check_output : checks the output of a job of `good`, given its name and the output folder.
    too_little_mb : memory in MiB that is too little for a case; None if a case needs hardly more
        memory than the libraries.
    """

    contract: Contract
    good: Mapping[str, Path]
    bad: Path
    bad_words: str
    uploaded: Path
    needs_upload: bool
    mark: str | None
    remarks: Mapping[str, str]
    check_output: Callable[[str, Path], Iterator[Check]]
    too_little_mb: int | None


def algorithm_trial(
    contract: Contract, program: Program, cases: Sequence[CaseFolder], *, root: Path, folder: Path
) -> Trial:
    """Return the trial of an algorithm on the first two cases.

    Parameters
    ----------
    root : the checkout, with the models and the expected outputs.
    folder : folder for the files of the trial.
    """
    good = {case.name: listed_case(case.input, folder / case.name) for case in cases[:2]}
    remarked = cases[1].name
    _add_trailing_comma(good[remarked] / "ehr.json")
    bad = listed_case(cases[0].input, folder / "without_pet")
    shutil.rmtree(bad / "images/pet")
    models = {place: root / source for place, source in program.models.items()}

    def check_output(job: str, output: Path) -> Iterator[Check]:
        yield from checks.check_content(output, contract, good[job])
        yield from checks.check_agreement(output, root / contract.name / "test" / job, contract)

    return Trial(
        contract=contract,
        good=good,
        bad=bad,
        bad_words="expected exactly one image (.mha, .tif, .tiff) for pet-image in ",
        uploaded=marked_models(models, folder / "model"),
        needs_upload=False,
        mark=MARK,
        remarks={remarked: "trailing comma, which is ignored"},
        check_output=check_output,
        too_little_mb=500,
    )


def evaluation_trial(cases: Sequence[CaseFolder], *, root: Path, folder: Path) -> Trial:
    """Return the trial of the evaluation: the outputs of the first and of the last algorithm."""
    contracts = {contract.name: contract for contract in (ALGORITHMS[0], ALGORITHMS[-1])}
    outputs = {
        name: {case.name: root / name / "test" / case.name for case in cases} for name in contracts
    }
    staged = {
        name: stage(contract, outputs=outputs[name], cases=cases, folder=folder / name)
        for name, contract in contracts.items()
    }
    bad = stage(
        ALGORITHMS[-1],
        outputs=outputs[ALGORITHMS[-1].name],
        cases=cases,
        folder=folder / "broken_list",
    )
    bad.break_the_list()

    def check_output(job: str, output: Path) -> Iterator[Check]:
        yield from check_metrics(output, contracts[job], outputs=outputs[job], cases=cases)

    return Trial(
        contract=EVALUATION,
        good={name: submission.input for name, submission in staged.items()},
        bad=bad.input,
        bad_words="predictions.json to be a list of jobs",
        uploaded=staged[ALGORITHMS[0].name].truth,
        needs_upload=True,
        mark=None,
        remarks={},
        check_output=check_output,
        too_little_mb=None,
    )


def listed_case(source: Path, target: Path) -> Path:
    """Copy a case and add the list of its inputs, as the platform writes it today."""
    shutil.copytree(source, target)
    content = listed()
    for entry in content:
        entry.update(interface=entry["socket"], pk="c0ffee")
    (target / "inputs.json").write_text(json.dumps(content), encoding="utf-8")
    return target


def _add_trailing_comma(ehr: Path) -> None:
    """Add a trailing comma, as in the organisers' sample, which makes the EHR invalid JSON."""
    text = ehr.read_text(encoding="utf-8").rstrip()
    assert text.endswith("}")
    ehr.write_text(f"{text[:-1].rstrip()},\n}}\n", encoding="utf-8")


def marked_models(models: Mapping[str, Path], folder: Path) -> Path:
    """Arrange model folders as in an image, and mark the card of the algorithm's own model."""
    stage_models(models, folder)
    card = json.loads((folder / "model.json").read_bytes())
    card["notice"] = MARK
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    return folder
