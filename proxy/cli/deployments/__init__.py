"""Verbs on the revisions of the configuration."""
