"""Calibration notions: views, givens, implications, exact populations, witnesses."""
