"""Task 3: decide the HPV status from a PET/CT and the health record.

The image bundles the model of Task 1, which outlines the lesions if the HPV model needs them.
"""

from pathlib import Path

from shared.doubts.find import find_doubts
from shared.editions import CURRENT
from shared.geometry import Grid
from shared.grand_challenge.inputs import read_case
from shared.grand_challenge.job import log, main
from shared.grand_challenge.outputs import write_hpv
from shared.models.chain import Chain


def init_model(model_dir: Path) -> Chain:
    """Load the models once; `run` may be called many times."""
    bundled = CURRENT.algorithm("hpv").bundled_models(model_dir)
    chain = Chain.load(hpv=model_dir, **bundled)
    log(*chain.describe())
    return chain


def run(chain: Chain, input_dir: Path, output_dir: Path) -> None:
    """Predict the case in `input_dir` and write true for HPV-positive disease."""
    case = read_case(input_dir, CURRENT)
    prepared = chain.prepare(case)
    log(*prepared.remarks)
    predictions = chain.predict(prepared, case.clinical, report=log)
    log(*(doubt.line for doubt in find_doubts(prepared, Grid.of(case.pet), predictions.labels)))
    assert predictions.hpv is not None, "the chain holds an HPV model"
    write_hpv(output_dir, predictions.hpv.decision, CURRENT)


if __name__ == "__main__":
    raise SystemExit(main(init_model, run, baked_model=Path(__file__).parent / "model"))
