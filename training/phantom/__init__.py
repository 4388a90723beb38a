"""Phantom patients: synthetic head-and-neck FDG PET/CT in the layout of the HECKTOR challenge."""

from training.phantom.cohort import make_cohort
from training.phantom.patient import Kind, PhantomPatient, make_patient

__all__ = ["Kind", "PhantomPatient", "make_cohort", "make_patient"]
