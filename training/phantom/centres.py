"""The centres: each has its own scanners, protocols, patients and gaps in the records.

Shares, whole-body scans and missing fields imitate the HECKTOR 2025 training set (seven centres;
MDA has 442 of 726 scans). Codes are the challenge's CenterID. Two more centres stand for those that
appear only at test time: CHUV has a sharper and noisier PET, CHB a blurred and differently
calibrated PET, and both have fewer HPV-positive patients.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Centre:
    """One hospital."""

    name: str
    code: int  # the challenge's CenterID
    patients: int  # number in the training set, which sets this centre's share of a cohort
    whole_body_share: float
    ct_pixel_mm: tuple[float, ...]
    ct_slice_mm: tuple[float, ...]
    pet_voxels: tuple[tuple[float, int], ...]  # (pixel size in mm, pixels per row)
    pet_slice_mm: tuple[float, ...]
    psf_mm: tuple[float, float]  # range of the full width at half maximum of the PET
    pet_noise: float  # relative, at SUV 1
    suv_scale: float  # calibration error of the PET
    padding_hu: tuple[int, ...]  # values outside the reconstruction circle; 0 means no padding
    bqml_share: float  # share of PETs stored in Bq/mL
    missing_share: dict[str, float]  # by field of the record
    hpv_prevalence: float
    log_hazard: float  # effect of the centre beyond what its patients explain
    unseen: bool = False  # only in cohorts that ask for it; not for training


def _missing(
    *, tobacco: float, alcohol: float, status: float, hpv: float, treatment: float = 0.01
) -> dict[str, float]:
    return {
        "Tobacco Consumption": tobacco, "Alcohol Consumption": alcohol,
        "Performance Status": status, "HPV": hpv, "Treatment": treatment,
    }  # fmt: skip


CENTRES: dict[str, Centre] = {
    centre.name: centre
    for centre in (
        Centre(
            name="CHUM", code=1, patients=56, whole_body_share=0.03,
            ct_pixel_mm=(0.98, 1.17), ct_slice_mm=(1.5, 2.0, 3.0), padding_hu=(0, -1024, -1024),
            pet_voxels=((4.0, 144), (3.52, 192)), pet_slice_mm=(3.27, 4.0),
            psf_mm=(5.5, 6.5), pet_noise=0.2, suv_scale=1.0, bqml_share=0.05,
            missing_share=_missing(tobacco=0.95, alcohol=0.97, status=0.95, hpv=0.25),
            hpv_prevalence=0.88, log_hazard=-0.6,
        ),
        Centre(
            name="CHUP", code=2, patients=72, whole_body_share=1.0,
            ct_pixel_mm=(0.98, 1.37, 1.52), ct_slice_mm=(2.0, 3.0), padding_hu=(0, -1024, -1024),
            pet_voxels=((4.07, 168), (2.73, 256)), pet_slice_mm=(2.78, 3.0),
            psf_mm=(5.0, 6.0), pet_noise=0.24, suv_scale=0.95, bqml_share=0.02,
            missing_share=_missing(tobacco=0.96, alcohol=0.96, status=0.97, hpv=0.35),
            hpv_prevalence=0.84, log_hazard=0.25,
        ),
        Centre(
            name="CHUS", code=3, patients=72, whole_body_share=0.02,
            ct_pixel_mm=(0.98, 1.17), ct_slice_mm=(3.0, 4.0), padding_hu=(0,),
            pet_voxels=((4.0, 144), (4.0, 169)), pet_slice_mm=(4.0,),
            psf_mm=(5.5, 7.0), pet_noise=0.22, suv_scale=1.05, bqml_share=0.05,
            missing_share=_missing(tobacco=0.15, alcohol=0.25, status=0.3, hpv=0.2),
            hpv_prevalence=0.86, log_hazard=0.0,
        ),
        Centre(
            name="HGJ", code=6, patients=55, whole_body_share=0.03,
            ct_pixel_mm=(0.98,), ct_slice_mm=(3.27,), padding_hu=(0, -3024, -3024),
            pet_voxels=((3.52, 144), (4.69, 128)), pet_slice_mm=(3.27,),
            psf_mm=(5.5, 7.0), pet_noise=0.18, suv_scale=1.0, bqml_share=0.05,
            missing_share=_missing(tobacco=0.93, alcohol=0.93, status=0.95, hpv=0.2),
            hpv_prevalence=0.86, log_hazard=0.0,
        ),
        Centre(
            name="HMR", code=7, patients=18, whole_body_share=0.05,
            ct_pixel_mm=(0.98, 1.17), ct_slice_mm=(2.0, 3.27), padding_hu=(0, -3024, -10504),
            pet_voxels=((4.0, 144), (3.52, 192)), pet_slice_mm=(3.27, 4.0),
            psf_mm=(6.0, 7.0), pet_noise=0.22, suv_scale=0.9, bqml_share=0.1,
            missing_share=_missing(tobacco=0.95, alcohol=0.95, status=0.95, hpv=0.2),
            hpv_prevalence=0.8, log_hazard=0.1,
        ),
        Centre(
            name="MDA", code=5, patients=442, whole_body_share=0.25,
            ct_pixel_mm=(0.49, 0.7, *(0.98,) * 7, 1.17, 1.37, 2.7),
            ct_slice_mm=(1.25, 2.5, 3.27, 3.27, 3.75), padding_hu=(0, -3024, -3024),
            pet_voxels=((2.73, 256), (3.65, 192), (5.47, 128), (5.47, 128)), pet_slice_mm=(3.27,),
            psf_mm=(5.5, 8.0), pet_noise=0.22, suv_scale=1.0, bqml_share=0.085,
            missing_share=_missing(
                tobacco=0.09, alcohol=0.09, status=0.2, hpv=0.23, treatment=0.02
            ),
            hpv_prevalence=0.92, log_hazard=0.0,
        ),
        Centre(
            name="USZ", code=8, patients=11, whole_body_share=1.0,
            ct_pixel_mm=(0.98, 1.37), ct_slice_mm=(3.27, 5.0), padding_hu=(0, -3024, -3024),
            pet_voxels=((2.73, 256), (3.65, 192)), pet_slice_mm=(3.27,),
            psf_mm=(5.5, 6.5), pet_noise=0.26, suv_scale=1.1, bqml_share=0.0,
            missing_share=_missing(tobacco=0.95, alcohol=0.95, status=0.97, hpv=0.15),
            hpv_prevalence=0.62, log_hazard=1.4,
        ),
        Centre(
            name="CHUV", code=4, patients=53, whole_body_share=0.85, unseen=True,
            ct_pixel_mm=(1.17, 1.37), ct_slice_mm=(2.5, 3.27), padding_hu=(0, -2048),
            pet_voxels=((4.07, 168), (2.73, 256)), pet_slice_mm=(3.0, 3.27),
            psf_mm=(4.2, 5.2), pet_noise=0.3, suv_scale=0.88, bqml_share=0.04,
            missing_share=_missing(tobacco=0.5, alcohol=0.55, status=0.6, hpv=0.2),
            hpv_prevalence=0.75, log_hazard=0.3,
        ),
        Centre(
            name="CHB", code=9, patients=58, whole_body_share=0.1, unseen=True,
            ct_pixel_mm=(0.98, 1.17), ct_slice_mm=(2.0, 4.0), padding_hu=(0, -1024),
            pet_voxels=((4.07, 200), (5.31, 128)), pet_slice_mm=(2.78, 4.0),
            psf_mm=(7.0, 8.5), pet_noise=0.16, suv_scale=1.15, bqml_share=0.1,
            missing_share=_missing(tobacco=0.05, alcohol=0.05, status=0.1, hpv=0.1),
            hpv_prevalence=0.7, log_hazard=0.2,
        ),
    )
}  # fmt: skip
