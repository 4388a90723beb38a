"""The hospitals: scanner, protocol, patients and gaps in the records, each its own.

Shares, whole-body scans and missing fields imitate the HECKTOR 2025 training set (seven centres,
MDA with 442 of 726 scans); codes are the challenge's CenterID. Two more centres stand for those
that appear at test time only: sharper and noisier PET at the one, blurred PET on a scale of its own
at the other, fewer HPV-positive patients at both.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Centre:
    """One hospital."""

    name: str
    code: int  # the challenge's CenterID
    patients: int  # in the training set, used as its share
    whole_body: float  # share of scans
    ct_pixel_mm: tuple[float, ...]
    ct_slice_mm: tuple[float, ...]
    pet_voxels: tuple[tuple[float, int], ...]  # (mm in plane, pixels a row)
    pet_slice_mm: tuple[float, ...]
    psf_mm: tuple[float, float]  # full width at half maximum, range
    noise: float  # relative PET noise at SUV 1
    suv_scale: float  # calibration
    padding_hu: tuple[int, ...]  # outside the reconstruction circle; 0 for none
    bqml: float  # share of PETs stored in Bq/mL
    missing: dict[str, float]  # share missing, by field
    hpv_prevalence: float
    log_hazard: float  # this centre's own, beyond what the patients explain
    unseen: bool = False  # only in cohorts that ask for it, never to be trained on


def _missing(
    tobacco: float, alcohol: float, status: float, hpv: float, treatment: float = 0.01
) -> dict[str, float]:
    return {
        "Tobacco Consumption": tobacco, "Alcohol Consumption": alcohol,
        "Performance Status": status, "HPV": hpv, "Treatment": treatment,
    }  # fmt: skip


CENTRES: dict[str, Centre] = {
    centre.name: centre
    for centre in (
        Centre(
            "CHUM", code=1, patients=56, whole_body=0.03,
            ct_pixel_mm=(0.98, 1.17), ct_slice_mm=(1.5, 2.0, 3.0), padding_hu=(0, -1024, -1024),
            pet_voxels=((4.0, 144), (3.52, 192)), pet_slice_mm=(3.27, 4.0),
            psf_mm=(5.5, 6.5), noise=0.2, suv_scale=1.0, bqml=0.05,
            missing=_missing(0.95, 0.97, 0.95, hpv=0.25),
            hpv_prevalence=0.88, log_hazard=-0.6,
        ),
        Centre(
            "CHUP", code=2, patients=72, whole_body=1.0,
            ct_pixel_mm=(0.98, 1.37, 1.52), ct_slice_mm=(2.0, 3.0), padding_hu=(0, -1024, -1024),
            pet_voxels=((4.07, 168), (2.73, 256)), pet_slice_mm=(2.78, 3.0),
            psf_mm=(5.0, 6.0), noise=0.24, suv_scale=0.95, bqml=0.02,
            missing=_missing(0.96, 0.96, 0.97, hpv=0.35),
            hpv_prevalence=0.84, log_hazard=0.25,
        ),
        Centre(
            "CHUS", code=3, patients=72, whole_body=0.02,
            ct_pixel_mm=(0.98, 1.17), ct_slice_mm=(3.0, 4.0), padding_hu=(0,),
            pet_voxels=((4.0, 144), (4.0, 169)), pet_slice_mm=(4.0,),
            psf_mm=(5.5, 7.0), noise=0.22, suv_scale=1.05, bqml=0.05,
            missing=_missing(0.15, 0.25, 0.3, hpv=0.2),
            hpv_prevalence=0.86, log_hazard=0.0,
        ),
        Centre(
            "HGJ", code=6, patients=55, whole_body=0.03,
            ct_pixel_mm=(0.98,), ct_slice_mm=(3.27,), padding_hu=(0, -3024, -3024),
            pet_voxels=((3.52, 144), (4.69, 128)), pet_slice_mm=(3.27,),
            psf_mm=(5.5, 7.0), noise=0.18, suv_scale=1.0, bqml=0.05,
            missing=_missing(0.93, 0.93, 0.95, hpv=0.2),
            hpv_prevalence=0.86, log_hazard=0.0,
        ),
        Centre(
            "HMR", code=7, patients=18, whole_body=0.05,
            ct_pixel_mm=(0.98, 1.17), ct_slice_mm=(2.0, 3.27), padding_hu=(0, -3024, -10504),
            pet_voxels=((4.0, 144), (3.52, 192)), pet_slice_mm=(3.27, 4.0),
            psf_mm=(6.0, 7.0), noise=0.22, suv_scale=0.9, bqml=0.1,
            missing=_missing(0.95, 0.95, 0.95, hpv=0.2),
            hpv_prevalence=0.8, log_hazard=0.1,
        ),
        Centre(
            "MDA", code=5, patients=442, whole_body=0.25,
            ct_pixel_mm=(0.49, 0.7, *(0.98,) * 7, 1.17, 1.37, 2.7),
            ct_slice_mm=(1.25, 2.5, 3.27, 3.27, 3.75), padding_hu=(0, -3024, -3024),
            pet_voxels=((2.73, 256), (3.65, 192), (5.47, 128), (5.47, 128)), pet_slice_mm=(3.27,),
            psf_mm=(5.5, 8.0), noise=0.22, suv_scale=1.0, bqml=0.085,
            missing=_missing(0.09, 0.09, 0.2, hpv=0.23, treatment=0.02),
            hpv_prevalence=0.92, log_hazard=0.0,
        ),
        Centre(
            "USZ", code=8, patients=11, whole_body=1.0,
            ct_pixel_mm=(0.98, 1.37), ct_slice_mm=(3.27, 5.0), padding_hu=(0, -3024, -3024),
            pet_voxels=((2.73, 256), (3.65, 192)), pet_slice_mm=(3.27,),
            psf_mm=(5.5, 6.5), noise=0.26, suv_scale=1.1, bqml=0.0,
            missing=_missing(0.95, 0.95, 0.97, hpv=0.15),
            hpv_prevalence=0.62, log_hazard=1.4,
        ),
        Centre(
            "CHUV", code=4, patients=53, whole_body=0.85, unseen=True,
            ct_pixel_mm=(1.17, 1.37), ct_slice_mm=(2.5, 3.27), padding_hu=(0, -2048),
            pet_voxels=((4.07, 168), (2.73, 256)), pet_slice_mm=(3.0, 3.27),
            psf_mm=(4.2, 5.2), noise=0.3, suv_scale=0.88, bqml=0.04,
            missing=_missing(0.5, 0.55, 0.6, hpv=0.2),
            hpv_prevalence=0.75, log_hazard=0.3,
        ),
        Centre(
            "CHB", code=9, patients=58, whole_body=0.1, unseen=True,
            ct_pixel_mm=(0.98, 1.17), ct_slice_mm=(2.0, 4.0), padding_hu=(0, -1024),
            pet_voxels=((4.07, 200), (5.31, 128)), pet_slice_mm=(2.78, 4.0),
            psf_mm=(7.0, 8.5), noise=0.16, suv_scale=1.15, bqml=0.1,
            missing=_missing(0.05, 0.05, 0.1, hpv=0.1),
            hpv_prevalence=0.7, log_hazard=0.2,
        ),
    )
}  # fmt: skip
