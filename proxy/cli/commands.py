"""The command line: its verbs, the options that all of them take, and which module does the work."""

import argparse
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from proxy import __version__

DEFAULT_CONFIG: Final = Path("conf/proxy.yaml")

EXIT_CODES: Final = """exit codes of the verbs:
  0    done
  1    refused, or not valid
  2    wrong usage
  3    no running proxy, or it did not answer
  130  interrupted by Ctrl-C
the start ends with 2 for wrong usage and 78 for a configuration that cannot be used
"""


@dataclass(frozen=True, slots=True)
class Verb:
    """A word of the command line; `config set` lives in `proxy.cli.config.set`.

    Args:
        verbs: those that may follow it; a verb without any is a module with `arguments` and `run`.
        default: the one of them that is meant when none follows.
    """

    name: str
    summary: str
    verbs: tuple["Verb", ...] = ()
    default: str = ""


VERBS: Final = (
    Verb(
        "deployments",
        "the revisions of the configuration",
        (
            Verb("list", "list them, newest first"),
            Verb("show", "show one: who, when, why, and what it changed"),
            Verb("diff", "show what differs between two"),
            Verb("rollback", "make an old one the newest"),
        ),
        default="list",
    ),
    Verb("deploy", "have the running proxy read its file again and apply it as a revision"),
    Verb(
        "config",
        "the configuration of the running proxy",
        (
            Verb("show", "show all of it or a part, as YAML"),
            Verb("get", "print one value"),
            Verb("set", "change values, all in one revision"),
            Verb("validate", "check a file as the start would, or the running configuration"),
            Verb("issues", "list what is wrong or doubtful, with what mends it"),
            Verb("export", "write it as a YAML file to commit"),
            Verb("schema", "print its JSON Schema"),
        ),
    ),
    Verb(
        "providers",
        "the providers of the running proxy",
        (
            Verb("status", "show how each does"),
            Verb("explain", "show who would be asked for a model, and why"),
            Verb("drain", "have one take no new calls; those that run go on"),
            Verb("enable", "let one take calls again, its failures forgotten"),
        ),
        default="status",
    ),
    Verb(
        "inflight",
        "the requests in work",
        (Verb("list", "list them, oldest first"), Verb("end", "end one; its client is told")),
        default="list",
    ),
    Verb(
        "cache",
        "the answers that are kept",
        (
            Verb("status", "show how full it is, how often it answers, and what that saved"),
            Verb("entries", "list what is kept, newest first"),
            Verb("clear", "throw it away, all or by model, key, caller or age"),
            Verb("explain", "show whether a request would be answered, and what makes it miss"),
        ),
        default="status",
    ),
    Verb(
        "keys",
        "the virtual keys of clients",
        (
            Verb("list", "list them with what each has spent"),
            Verb("show", "show one with its settings"),
            Verb("create", "make one; it is shown this once"),
            Verb("rotate", "give one another text; it is shown this once"),
            Verb("revoke", "take one away; no new request passes with it"),
        ),
        default="list",
    ),
    Verb("completion", "print completions for a shell"),
)


class VerbParser(argparse.ArgumentParser):
    """Learns its arguments when it is first asked to parse: only the module of the verb that is used is imported.

    The start of the proxy therefore pays for the names of the verbs, and for nothing else.
    """

    def __init__(
        self,
        *,
        learn: Callable[["VerbParser"], None] | None = None,
        **options: Any,  # Any: what ArgumentParser takes
    ) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._learn = learn
        self.verbs: list[VerbParser] = []

    def parse_known_args(  # type: ignore[override]  # the overloads only tie the result to `namespace`
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        """Do as ArgumentParser does, after learning what there is to parse."""
        self.learn()
        return super().parse_known_args(args, namespace)

    def learn(self, *, all_verbs: bool = False) -> None:
        """Add this verb's arguments if they are not there yet; on demand also those of the verbs below."""
        learn, self._learn = self._learn, None
        if learn is not None:
            learn(self)
        if all_verbs:
            for verb in self.verbs:
                verb.learn(all_verbs=True)


def build_parser(program: str = "python -m proxy") -> VerbParser:
    """Make the parser of the whole command line; `program` is its name in usage lines."""
    parser = VerbParser(
        prog=program,
        description="Switchyard: a reverse proxy between applications and LLM providers.\n"
        "Without a verb it starts the proxy; a verb talks to the one that runs.",
        epilog=EXIT_CODES,
    )
    _add_common(parser)
    start = parser.add_argument_group("for the start")
    start.add_argument("--host", help="address to listen on, instead of server.host")
    start.add_argument("--port", type=port, help="port to listen on, instead of server.port; 0 picks a free one")
    parser.add_argument("--version", action="version", version=f"switchyard {__version__}")
    parser.set_defaults(verb=())
    _add_verbs(parser, (), VERBS, required=False)
    return parser


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; wrong arguments end the process with 2."""
    parser = build_parser()
    options, unknown = parser.parse_known_args(arguments)
    if hasattr(options, "assignments") and not any(word.startswith("-") for word in unknown):
        # argparse takes a list of positionals in one piece only: `config set a=1 --ttl 5m b=2`
        options.assignments += unknown
        unknown = []
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.verb and (options.host is not None or options.port is not None):
        parser.error("--host and --port are for the start; a verb finds its proxy by --url")
    if not options.verb:
        for name in ("url", "token", "json"):
            if hasattr(options, name):
                parser.error(f"--{name} goes with a verb")
    return options


def run(arguments: list[str] | None) -> int:
    """Start the proxy or run a verb; returns the exit code.

    Each of the two is imported only where it is meant, by name: the proxy with its event loop takes half a second.
    """
    options = parse(arguments)
    gc.disable()  # nothing that an import makes is garbage, and looking for some is a twentieth of the start
    module = import_module("proxy.cli.session" if options.verb else "proxy.cli.start")
    gc.enable()
    code: int = module.run(options)
    return code


def port(text: str) -> int:
    """Read a port number."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Add what may stand before and after every verb; without defaults, which would undo what stood before."""
    options = parser.add_argument_group("for every verb")
    options.add_argument(
        "--config",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help=f"configuration of the proxy ({DEFAULT_CONFIG})",
    )
    options.add_argument(
        "--url",
        default=argparse.SUPPRESS,
        help="where the running proxy is; else SWITCHYARD_URL, else as its state folder says",
    )
    options.add_argument(
        "--token",
        default=argparse.SUPPRESS,
        help="its admin token; else PROXY_ADMIN_TOKEN, else admin.token of the configuration file",
    )
    options.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print the JSON answer instead of tables"
    )


def _add_verbs(parser: VerbParser, path: tuple[str, ...], verbs: tuple[Verb, ...], *, required: bool) -> None:
    group = parser.add_subparsers(title="verbs", metavar="VERB", required=required, parser_class=VerbParser)
    for verb in verbs:
        parser.verbs.append(
            group.add_parser(
                verb.name,
                help=verb.summary,
                description=f"{verb.summary[0].upper()}{verb.summary[1:]}.",
                allow_abbrev=False,
                learn=_learner((*path, verb.name), verb),
            )
        )


def _learner(path: tuple[str, ...], verb: Verb) -> Callable[[VerbParser], None]:
    def learn(parser: VerbParser) -> None:
        _add_common(parser)
        meant = path
        if verb.verbs:
            _add_verbs(parser, path, verb.verbs, required=not verb.default)
            meant = (*path, verb.default)
        if not verb.verbs or verb.default:
            module_of(meant).arguments(parser)
            parser.set_defaults(verb=meant)

    return learn


def module_of(path: tuple[str, ...]) -> Any:  # Any: a module with `arguments(parser)` and `run(options, session)`
    """Import the module of a verb."""
    return import_module(".".join(("proxy.cli", *path)))
