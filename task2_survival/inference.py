"""Task 2: predict recurrence-free survival as a risk (higher = earlier recurrence).

The image bundles the model of Task 1, which outlines the lesions, and the model of Task 3. The
health record does not contain the HPV status, so Task 2 uses the probability that Task 3 predicts.
The case is read and prepared once for all three models.
"""

from pathlib import Path

from shared.doubts.find import find_doubts
from shared.editions import CURRENT
from shared.geometry import Grid
from shared.grand_challenge.inputs import read_case
from shared.grand_challenge.job import log, main
from shared.grand_challenge.outputs import write_risk
from shared.models.chain import Chain


def init_model(model_dir: Path) -> Chain:
    """Load the three models once; `run` may be called many times."""
    bundled = CURRENT.algorithm("survival").bundled_models(model_dir)
    chain = Chain.load(survival=model_dir, **bundled)
    log(*chain.describe())
    return chain


def run(chain: Chain, input_dir: Path, output_dir: Path) -> None:
    """Predict the case in `input_dir` and write its risk."""
    case = read_case(input_dir, CURRENT)
    prepared = chain.prepare(case)
    log(*prepared.remarks)
    predictions = chain.predict(prepared, case.clinical, report=log)
    log(*(doubt.line for doubt in find_doubts(prepared, Grid.of(case.pet), predictions.labels)))
    assert predictions.risk is not None, "the chain holds a survival model"
    write_risk(output_dir, predictions.risk, CURRENT)


if __name__ == "__main__":
    raise SystemExit(main(init_model, run, baked_model=Path(__file__).parent / "model"))
