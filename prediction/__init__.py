"""Predictions for a PET/CT of your own: from NIfTI files or DICOM folders to a mask and a page."""
