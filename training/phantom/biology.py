"""The effects of the HPV status on tumours and people, in one table.

Tumours and people are drawn from the row of their status (`tumour`, `outcome`). The oracle
(`oracle`) applies Bayes' rule to the same rows, so it computes the best score exactly.
HPV-positive tumours are mostly oropharyngeal and smaller, with larger and often cystic nodes, in
younger patients who smoke and drink less (Ang et al. 2010, NEJM 363:24; cystic nodes: Cantrell et
al. 2013, AJNR 34:2005). The numbers are our own choice: they reproduce the marginal statistics of
HECKTOR 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Core: TypeAlias = Literal["solid", "necrotic", "cystic"]
CORES: Final[tuple[Core, ...]] = ("solid", "necrotic", "cystic")

AGE_SD: Final = 8.9
PRIMARY_ML_SIGMA: Final = 0.75
NODE_ML_SIGMA: Final = 0.8
"""Standard deviations of the log volume of a primary and of a node."""
SUV_SIGMA: Final = 0.4
"""Standard deviation of the log uptake of a lesion."""
MIN_CORED_PRIMARY_ML, MIN_CORED_NODE_ML = 8.0, 1.5
"""Smaller lesions are solid."""


@dataclass(frozen=True, kw_only=True)
class Biology:
    """Patients and tumours of one HPV status; shares are probabilities.

    Attributes
    ----------
    age : mean age in years.
    male, tobacco, alcohol : share of men, of smokers and of drinkers.
    sites : share of each site of the primary.
    primary_ml, first_node_ml : median volumes; those of later nodes do not depend on the status.
    primary_suv : median uptake of viable primary tumour.
    primary_cores, node_cores : shares of `CORES` among lesions large enough for a core.
    """

    age: float
    male: float
    tobacco: float
    alcohol: float
    sites: dict[str, float]
    primary_ml: float
    first_node_ml: float
    primary_suv: float
    primary_cores: tuple[float, float, float]
    node_cores: tuple[float, float, float]


BIOLOGY: Final[dict[bool, Biology]] = {
    True: Biology(
        age=59.2, male=0.85, tobacco=0.42, alcohol=0.62,
        sites={"tonsil": 0.53, "base of tongue": 0.40, "oral cavity": 0.02, "larynx": 0.02,
               "hypopharynx": 0.01, "nasopharynx": 0.02},
        primary_ml=7.0, first_node_ml=7.5, primary_suv=12.5,
        primary_cores=(0.85, 0.15, 0.0), node_cores=(0.50, 0.15, 0.35),
    ),
    False: Biology(
        age=66.0, male=0.72, tobacco=0.80, alcohol=0.82,
        sites={"tonsil": 0.32, "base of tongue": 0.25, "oral cavity": 0.13, "larynx": 0.15,
               "hypopharynx": 0.14, "nasopharynx": 0.01},
        primary_ml=16.0, first_node_ml=4.0, primary_suv=16.0,
        primary_cores=(0.60, 0.40, 0.0), node_cores=(0.62, 0.35, 0.03),
    ),
}  # fmt: skip
