"""Patients on real CTs with labels in the form of OpenKBP (Babier et al. 2021)."""
