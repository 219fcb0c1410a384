"""The run loops: predict, fit."""
