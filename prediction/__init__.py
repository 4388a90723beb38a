"""Predict a PET/CT of your own: read NIfTI files or DICOM folders, write a mask and a page."""
