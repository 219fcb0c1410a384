"""Frozen networks: image to feature map."""
