"""Task 1: outline the primary tumour (GTVp) and the involved lymph nodes (GTVn) on a PET/CT."""

from pathlib import Path

from shared.doubts.find import find_doubts
from shared.editions import CURRENT
from shared.geometry import Grid
from shared.grand_challenge.inputs import read_case
from shared.grand_challenge.job import log, main
from shared.grand_challenge.outputs import write_segmentation
from shared.models.segmentation import SegmentationModel
from shared.postprocessing.remarks import describe_lesions
from shared.postprocessing.restore import restore
from shared.preprocessing.pipeline import prepare


def init_model(model_dir: Path) -> SegmentationModel:
    """Load the segmentation model once; `run` may be called many times."""
    model = SegmentationModel.load(model_dir)
    log(*model.describe())
    return model


def run(model: SegmentationModel, input_dir: Path, output_dir: Path) -> None:
    """Segment the case in `input_dir` and write the label map on the CT's grid."""
    case = read_case(input_dir, CURRENT)
    prepared = prepare(case, model.card.preparation)
    log(*prepared.remarks)
    pet = Grid.of(case.pet)
    del case  # a long CT takes more memory than all later steps, which need only the grids
    segmented = model.segment(prepared)
    log(*describe_lesions(segmented.labels, prepared))
    log(*(doubt.line for doubt in find_doubts(prepared, pet, segmented.labels)))
    write_segmentation(output_dir, restore(segmented, prepared.undo), CURRENT)


if __name__ == "__main__":
    raise SystemExit(main(init_model, run, baked_model=Path(__file__).parent / "model"))
