"""The datasets that are known by name, and people's own folders. A new dataset is one file here."""
