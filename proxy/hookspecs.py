"""The hooks: when each is called, what it may change, what each answer means, what becomes of an exception."""

from collections.abc import Mapping, Sequence

import pluggy

from proxy.callers import Identity
from proxy.exchange import Candidate, Exchange, Reply, Wait
from proxy.plugin import AdminRoute, Issue, PluginConfig
from proxy.sink import StreamFilter

hookspec = pluggy.HookspecMarker("proxy")


@hookspec
async def startup() -> None:
    """Get ready: open files, start background work through `context.spawn`.

    Called: once, before the first request, when the plugin is enabled; in the order of `plugins:`; within 30 s,
        then it is cut. May be a plain function. An object made anew for a live change (see `reconfigure`) is
        started before it takes part, within 5 s, while the one it replaces still lives.
    Raises: anything ends the start with a message that names the plugin, or refuses the live change whole.
    Example: a cache loads its index.
    """


@hookspec
async def shutdown() -> None:
    """Let go of everything `startup` took.

    Called: once, after the last request, in reverse order; within 5 s, then it is cut.
        Tasks started by `context.spawn` are cancelled afterwards. Also when a live change switches the plugin off or
        another object takes its place: requests that began before may still call the hooks of this one.
    Raises: anything is logged; the others are called all the same.
    Example: analytics writes its last batch.
    """


@hookspec
async def reconfigure(config: PluginConfig) -> None:
    """Take over new settings while running.

    Called: when a live change touches the plugin's own section and the plugin is enabled before and after; within
        5 s, then it is cut. Requests go on meanwhile. May be a plain function. When a plugin after this one refuses
        the same change, it is called again with the settings from before.
        A plugin without this hook, or one that skips it, is made anew: a new object, `startup` of that one, then
        `shutdown` of the old one; for a moment both live. So is one that does not take its old settings again.
    Args:
        config: valid; the host puts it into `self.config` afterwards.
    Raises: anything refuses the whole change with 422, the plugin's section and its words. Apply all of it or raise.
    Example: a cache keeps its entries and takes the new size.
    """


@hookspec
async def pre_request(exchange: Exchange) -> Reply | Wait | None:
    """Look at a request before a provider is chosen.

    Called: once per exchange, after the body is read, in the order of `plugins:`.
        One at a time; the first Reply ends the round and `select_provider` is skipped.
        May be a plain function, which costs less.
    Args:
        exchange: `exchange.request` may be changed in place; the rest is read-only.
    Returns:
        None to let the request pass, a Reply that answers the client here, or a Wait.
    Raises:
        Refused: the client gets its status and code. Anything else, also a run over the budget of 250 ms, counts
            as None (503 `plugin_failed` if the plugin is fail-closed): it is logged and counted under the
            plugin's name.
    Example: a cache answers a repeated question; a limiter refuses the eleventh in a minute.
    """


@hookspec
def select_provider(exchange: Exchange, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
    """Put the providers that have the model in the order in which they are to be asked.

    Called: once per exchange that at least two candidates can answer, after `pre_request`; the first answer that
        is not None wins. A plain function: a coroutine would itself count as the answer.
    Args:
        exchange: read-only. With `is_dry_run` nobody is asked: answer as ever, do not count it, and tell in
            `exchange.notes`, under the plugin's name, what an operator should know of how the order came about.
        candidates: by priority, then as configured; do not change the sequence, return another.
    Returns:
        A sequence of some of the candidates, the first to be asked first; None to leave it to the next plugin.
        An empty one, or one with a candidate that was not given, counts as an exception.
    Raises: as in `pre_request`; Refused is passed to the client.
    Example: the balancer keeps a session at one provider, and shares the others by weight.
    """


@hookspec
def stream_filter(exchange: Exchange) -> StreamFilter | None:
    """Give an object that sees every event of a stream before the client does.

    Called: once per streamed response, when its head has come, in the order of `plugins:`; filters are chained.
        A plain function. While any plugin implements it, streams are split into events (it costs).
    Args:
        exchange: read-only.
    Returns:
        A StreamFilter for this stream, or None.
    Raises: Refused, in the filter, ends the stream: the client gets its code and words in an error event, or as the
        whole answer if it has seen nothing yet. Anything else, here or in the filter, ends the filter's part in this
        stream: later events pass it by. If the plugin is fail-closed the stream ends with an error event instead.
    Example: a guardrail masks card numbers.
    """


@hookspec
async def post_response(exchange: Exchange) -> None:
    """Take note of how an exchange ended.

    Called: exactly once per exchange, however it ended, after the last byte was handed to the client's socket;
        in the order of `plugins:`. May be a plain function.
    Args:
        exchange: complete and read-only: status, attempts, usage, durations, error.
    Raises: anything is logged and counted; nothing it does reaches the client.
    Example: analytics adds tokens and cost.
    """


@hookspec
def admin_routes() -> Sequence[AdminRoute]:  # type: ignore[empty-body]  # a specification has no body
    """Name the paths under which this plugin answers operators.

    Called: once for each object, when it is made and before it is started; the routes answer 404 `plugin_disabled`
        while the plugin is switched off. A plain function.
    Returns:
        AdminRoute objects; two plugins that want the same path end the start, or refuse the live change.
    Example: `GET /cache/status`.
    """


@hookspec
def identify(text: str, is_credential: bool) -> Identity | None:
    """Tell whom a caller would be recognised as, for operators who ask what would become of its requests.

    Called: when an operator names a caller, while the plugin is enabled. A plain function; nothing is counted or told,
        since nobody asks for anything.
    Args:
        text: a credential as clients send it, without `Bearer`, not to be kept or written anywhere; or else a name or
            id by which operators know the caller.
        is_credential: which of the two it is.
    Returns:
        What `pre_request` would set as `exchange.identity`; None if the plugin does not know it.
    Raises: anything, as well as an answer of another type, is logged and counted and stands for None.
    Example: the keys plugin finds a virtual key.
    """


@hookspec
async def reset() -> Mapping[str, int] | None:
    """Forget what was counted and kept of requests; what operators made stays.

    Called: by `POST /reset`, once the document has gone back to its file, while the plugin is enabled; within 5 s, then
        it is cut. May be a plain function. Requests go on meanwhile.
    Returns:
        What went, for the operator, such as `{"entries": 12}`; None for nothing worth telling.
    Raises: anything is logged and counted, and the answer to the operator names the plugin; the others are called.
    Example: a cache empties itself.
    """


@hookspec
def config_issues() -> Sequence[Issue]:  # type: ignore[empty-body]  # a specification has no body
    """Tell what an operator should know about this plugin's section.

    Called: when somebody asks for the issues of the configuration, while the plugin is enabled. A plain function.
    Returns:
        Issues about the settings in force, each with a patch or a command that mends it where there is one.
    Raises: anything, as well as an answer of another type, is logged and counted and stands for no issues.
    Example: the debug plugin tells that prompts are being written to the log.
    """
