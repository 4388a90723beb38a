"""Phantom patients: synthetic head-and-neck FDG PET/CT in the layout of the HECKTOR challenge."""

from training.phantom.cohort import make_cohort
from training.phantom.patient import Kind, Patient, make_patient

__all__ = ["Kind", "Patient", "make_cohort", "make_patient"]
