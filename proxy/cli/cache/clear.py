"""`cache clear`: throw away what is kept, all of it or a part."""

import argparse
from urllib.parse import urlencode

from proxy.cli.cache.entries import add_filters, filters_of
from proxy.cli.exits import DONE
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    add_filters(parser)


def run(options: argparse.Namespace, session: Session) -> int:
    """Throw it away."""
    query = urlencode(filters_of(options))
    answer = session.send("DELETE", f"/cache?{query}" if query else "/cache")
    if session.wants_json:
        session.screen.json(answer)
        return DONE
    session.screen.line(f"{answer.get('cleared')} answers thrown away")
    return DONE
