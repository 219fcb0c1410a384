"""What can be downloaded, and where it lies on disk."""
