"""Pictures and pages made from results; knows nothing of models."""
