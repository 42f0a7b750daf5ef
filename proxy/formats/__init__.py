"""Wire formats: what clients and providers say to each other, as pure functions over bytes."""
