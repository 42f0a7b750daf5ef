"""Verbs on providers."""
