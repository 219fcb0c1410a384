"""Training: plan, features, batches, step, loop, state."""
