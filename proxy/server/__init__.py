"""From the client's bytes to an exchange and back: paths, guard, bodies, answers."""
