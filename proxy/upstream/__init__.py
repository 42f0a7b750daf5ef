"""Bytes to providers and back: connections, their pools, concurrency slots and header rules."""
