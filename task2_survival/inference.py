"""Task 2: predict recurrence-free survival as a risk (higher = earlier recurrence).

The image bundles the models of Task 1 and Task 3. All three see one reading and one preparation
of the case: Task 1 outlines the lesions, Task 3 supplies the HPV status that the record lacks.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from shared.grand_challenge import HECKTOR_2025, log, main, read_case, write_risk
from shared.models.card import require_same_preparation
from shared.models.hpv import HpvModel
from shared.models.segmentation import SegmentationModel
from shared.models.survival import SurvivalModel
from shared.postprocessing.remarks import describe_lesions
from shared.preprocessing.pipeline import prepare


@dataclass(frozen=True)
class Models:
    """The survival model and the two that feed it."""

    survival: SurvivalModel
    segmentation: SegmentationModel
    hpv: HpvModel


def init_model(model_dir: Path) -> Models:
    """Load the three models once; `run` may be called many times."""
    models = Models(
        SurvivalModel.load(model_dir),
        SegmentationModel.load(model_dir / "segmentation"),
        HpvModel.load(model_dir / "hpv"),
    )
    require_same_preparation(models.survival.card, models.segmentation.card, models.hpv.card)
    for model in (models.survival, models.segmentation, models.hpv):
        log(*model.describe())
    return models


def run(models: Models, input_dir: Path, output_dir: Path) -> None:
    """Predict the case in `input_dir` and write its risk."""
    case = read_case(input_dir, HECKTOR_2025)
    prepared = prepare(case, models.survival.card.preparation)
    log(*prepared.remarks)
    labels = models.segmentation.segment(prepared)
    log(*describe_lesions(labels, prepared))
    hpv = models.hpv.predict(prepared, case.clinical, labels)
    log(f"HPV: probability {hpv.probability:.3f}")
    clinical = replace(case.clinical, hpv=hpv.probability)
    risk = models.survival.predict(prepared, labels, clinical)
    log(f"risk: {risk:.4f} (higher = earlier recurrence)")
    write_risk(output_dir, risk, HECKTOR_2025)


if __name__ == "__main__":
    raise SystemExit(main(init_model, run, Path(__file__).parent / "model"))
