"""`python -m proxy`: start the proxy, or run one of its commands."""

import sys
from typing import NoReturn

from proxy.cli.commands import run


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run from the command line."""
    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
