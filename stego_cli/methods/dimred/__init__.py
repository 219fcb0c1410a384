"""Reduction of dimensions without training: the baselines of the STEGO study."""
