"""The verbs on the cache."""
