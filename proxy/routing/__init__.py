"""Which provider next, and when to give up: pure decisions."""
