"""Releases on disk: written once, hashed, labelled. Knows files, no model."""
