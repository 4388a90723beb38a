"""Task 3: decide the HPV status from a PET/CT and the health record."""

from pathlib import Path

from shared.grand_challenge import HECKTOR_2025, log, main, read_case, write_hpv
from shared.models.hpv import HpvModel
from shared.preprocessing.pipeline import prepare


def init_model(model_dir: Path) -> HpvModel:
    """Load the HPV model once; `run` may be called many times."""
    model = HpvModel.load(model_dir)
    log(*model.describe())
    return model


def run(model: HpvModel, input_dir: Path, output_dir: Path) -> None:
    """Predict the case in `input_dir` and write true for HPV-positive disease."""
    case = read_case(input_dir, HECKTOR_2025)
    prepared = prepare(case, model.card.preparation)
    log(*prepared.remarks)
    prediction = model.predict(prepared, case.clinical)
    log(
        f"HPV: logit {prediction.logit:.3f}, probability {prediction.probability:.3f}, "
        f"threshold {model.card.threshold:.3f}"
    )
    write_hpv(output_dir, prediction.decision, HECKTOR_2025)


if __name__ == "__main__":
    raise SystemExit(main(init_model, run, Path(__file__).parent / "model"))
