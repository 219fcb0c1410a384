"""The run loops: train, evaluate, predict, fit, crop, neighbours, features."""
