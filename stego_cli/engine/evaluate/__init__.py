"""Evaluation: plan, counts, class names, examples, store."""
