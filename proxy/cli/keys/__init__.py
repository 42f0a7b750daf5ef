"""Verbs on virtual keys."""
