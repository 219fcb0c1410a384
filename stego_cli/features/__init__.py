"""What a frozen backbone sees of a dataset, on disk: written once, read at random, refused when stale."""
