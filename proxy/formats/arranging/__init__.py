"""One reply in its two forms, whole and as a stream, within one wire format; without loss, or not at all."""
