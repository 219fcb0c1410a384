"""Scores: confusion matrix, matching of clusters to classes, intersection over union."""
