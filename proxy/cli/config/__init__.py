"""Verbs that read and change the configuration of the running proxy."""
