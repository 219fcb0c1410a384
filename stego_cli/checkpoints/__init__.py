"""Reading and writing models without executing anything that a file says."""
