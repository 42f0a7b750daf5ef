"""Arguments of the form NAME=VALUE."""

import argparse


def pair(text: str) -> tuple[str, str]:
    """Read a name and a value, which may have a `=` of its own. Raises ArgumentTypeError."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
