"""Ablation: the grid, the ground that its cells share, a cell, the processes, the record."""
