"""Recorded shapes of the vendors' responses, filled with the text or tool call of an Answer; pure."""
