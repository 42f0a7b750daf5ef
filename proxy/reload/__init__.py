"""From one revision of the configuration to the next: validate all of it, make all of it ready, then swap."""
