"""`completion bash|zsh`: the words of the command line, for a shell to complete."""

import argparse
from pathlib import Path

import shtab

from proxy.cli.commands import VerbParser, build_parser
from proxy.cli.exits import DONE
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell to write for")
    parser.add_argument("--program", default="switchyard", metavar="NAME", help="the command to complete (%(default)s)")


def run(options: argparse.Namespace, session: Session) -> int:
    """Print the script."""
    parser = build_parser(options.program)
    parser.learn(all_verbs=True)
    complete_files(parser)
    session.screen.text(shtab.complete(parser, options.shell) + "\n")
    return DONE


def complete_files(parser: VerbParser) -> None:
    """Tell the library which arguments are files."""
    for action in parser._actions:  # the library reads the same; there is no public list
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # how the library wants to be told
    for verb in parser.verbs:
        complete_files(verb)
