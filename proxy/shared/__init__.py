"""The shared store: a Redis or Valkey behind one deadline and one circuit, so that it never holds up a request."""
