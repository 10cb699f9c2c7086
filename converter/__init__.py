"""NIfTI in, mirror out."""
