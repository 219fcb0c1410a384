"""Cluster probe and linear probe: what turns code into classes."""
