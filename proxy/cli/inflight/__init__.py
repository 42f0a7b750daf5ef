"""Verbs on the requests in work."""
