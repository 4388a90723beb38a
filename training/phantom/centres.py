"""The hospitals: scanner, protocol, patients and gaps in the records, each its own.

Shares, whole-body scans and missing fields imitate the HECKTOR 2025 training set (seven centres,
MDA with 442 of 726 scans); codes are the challenge's CenterID.
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
    padding_hu: int  # outside the reconstruction circle; 0 for none
    bqml: float  # share of PETs stored in Bq/mL
    missing: dict[str, float]  # share missing, by field
    hpv_prevalence: float
    log_hazard: float  # this centre's own, beyond what the patients explain


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
        Centre("CHUM", 1, 56, 0.03, (0.98, 1.17), (1.5, 2.0, 3.0), ((4.0, 144), (3.52, 192)),
               (3.27, 4.0), (5.5, 6.5), 0.20, 1.0, -1024, 0.05, _missing(0.95, 0.97, 0.95, 0.25),
               0.88, -0.35),
        Centre("CHUP", 2, 72, 1.00, (0.98, 1.37, 1.52), (2.0, 3.0), ((4.07, 168), (2.73, 256)),
               (2.0, 3.0), (5.0, 6.0), 0.24, 0.95, -1024, 0.02, _missing(0.96, 0.96, 0.97, 0.35),
               0.84, 0.25),
        Centre("CHUS", 3, 72, 0.02, (0.98, 1.17), (3.0, 4.0), ((4.0, 144), (4.0, 169)),
               (4.0,), (5.5, 7.0), 0.22, 1.05, 0, 0.05, _missing(0.15, 0.25, 0.30, 0.20),
               0.86, 0.0),
        Centre("HGJ", 6, 55, 0.03, (0.98,), (3.27,), ((3.52, 144), (4.69, 128)),
               (3.27,), (5.5, 7.0), 0.18, 1.0, -3024, 0.05, _missing(0.93, 0.93, 0.95, 0.20),
               0.86, 0.0),
        Centre("HMR", 7, 18, 0.05, (0.98, 1.17), (2.0, 3.27), ((4.0, 144), (3.52, 192)),
               (3.27, 4.0), (6.0, 7.0), 0.22, 0.9, -3024, 0.1, _missing(0.95, 0.95, 0.95, 0.20),
               0.80, 0.3),
        Centre("MDA", 5, 442, 0.25, (0.49, 0.7, 0.98, 0.98, 0.98, 1.37),
              
               (1.25, 2.5, 3.27, 3.27, 3.75), ((2.73, 256), (3.65, 192), (5.47, 128), (5.47, 128)),
               (3.27,), (5.5, 8.0),
               0.22, 1.0, -3024, 0.085, _missing(0.09, 0.09, 0.20, 0.23, 0.02), 0.92, 0.0),
        Centre("USZ", 8, 11, 1.00, (0.98, 1.37), (3.27, 5.0), ((2.73, 256), (3.65, 192)),
               (3.27,), (5.5, 6.5), 0.26, 1.1, -3024, 0.0, _missing(0.95, 0.95, 0.97, 0.15),
               0.62, 0.9),
    )
}  # fmt: skip
