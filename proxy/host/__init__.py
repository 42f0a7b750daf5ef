"""Finds, orders, calls, times and contains plugins."""
