"""Methods: features to code. One folder each."""
