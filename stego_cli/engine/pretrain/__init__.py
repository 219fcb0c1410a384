"""Pretraining a small vision transformer: visual words, views, network, rounds."""
