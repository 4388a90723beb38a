"""Task 3: decide the HPV status from a PET/CT and the health record.

The image bundles the model of Task 1: where the HPV model measures lesions, that one outlines them.
"""

from dataclasses import dataclass
from pathlib import Path

from shared.grand_challenge import HECKTOR_2025, log, main, read_case, write_hpv
from shared.models.card import require_same_preparation
from shared.models.hpv import HpvModel
from shared.models.segmentation import SegmentationModel
from shared.postprocessing.remarks import describe_lesions
from shared.preprocessing.pipeline import prepare


@dataclass(frozen=True)
class Models:
    """The HPV model and the one that outlines what it measures; None where it measures nothing."""

    hpv: HpvModel
    segmentation: SegmentationModel | None


def init_model(model_dir: Path) -> Models:
    """Load the models once; `run` may be called many times."""
    hpv = HpvModel.load(model_dir)
    log(*hpv.describe())
    if not hpv.card.measures:
        return Models(hpv, None)
    segmentation = SegmentationModel.load(model_dir / "segmentation")
    require_same_preparation(hpv.card, segmentation.card)
    log(*segmentation.describe())
    return Models(hpv, segmentation)


def run(models: Models, input_dir: Path, output_dir: Path) -> None:
    """Predict the case in `input_dir` and write true for HPV-positive disease."""
    case = read_case(input_dir, HECKTOR_2025)
    prepared = prepare(case, models.hpv.card.preparation)
    log(*prepared.remarks)
    labels = None
    if models.segmentation is not None:
        labels = models.segmentation.segment(prepared)
        log(*describe_lesions(labels, prepared))
    prediction = models.hpv.predict(prepared, case.clinical, labels)
    log(
        f"HPV: logit {prediction.logit:.3f}, probability {prediction.probability:.3f}, "
        f"threshold {models.hpv.card.threshold:.3f}"
    )
    write_hpv(output_dir, prediction.decision, HECKTOR_2025)


if __name__ == "__main__":
    raise SystemExit(main(init_model, run, Path(__file__).parent / "model"))
