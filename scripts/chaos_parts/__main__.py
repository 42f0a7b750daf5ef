"""The command line of the chaos run."""

import argparse
import asyncio
import sys

from scripts.chaos_parts.report import misses, report
from scripts.chaos_parts.run import chaos


def main() -> int:
    """Run as asked; 1 if a limit was missed."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description="Three providers fail at random under load.")
    parser.add_argument("--seed", type=int, default=1, help="what happens when (default: 1)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second (default: 200)")
    options = parser.parse_args()
    run = asyncio.run(chaos(options.seed, options.seconds, options.rate))
    print(report(run))
    return 1 if misses(run) else 0


if __name__ == "__main__":
    sys.exit(main())
