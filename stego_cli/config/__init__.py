"""Typed, checked configuration; imports neither torch nor timm."""
