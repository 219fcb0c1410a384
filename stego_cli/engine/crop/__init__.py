"""Cropping a dataset: plan, worker processes, journal."""
