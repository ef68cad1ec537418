"""Distributions over rankings: probabilities, exact marginals, samples."""
