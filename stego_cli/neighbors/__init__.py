"""Pooled features, the search for nearest neighbours among them, and the neighbour index on disk."""
