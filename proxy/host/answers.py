"""What a hook may answer: the checks between a plugin and the rest of the proxy."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar, cast, get_args

from proxy.callers import Identity
from proxy.exchange import Candidate, JsonObject, Reply, Wait
from proxy.plugin import Issue, Severity
from proxy.sink import StreamFilter

ElementT = TypeVar("ElementT")

SEVERITIES: Final = get_args(Severity)


def close(answer: object) -> None:
    """Close a coroutine that nobody will await."""
    if inspect.iscoroutine(answer):
        answer.close()


def junk(hook: str, answer: object, wanted: str) -> TypeError:
    """Make the error for an answer of the wrong type."""
    close(answer)
    return TypeError(f"{hook} returned a {type(answer).__name__}, not {wanted}")


def check_reply(answer: object) -> Reply | Wait:
    """Check what `pre_request` answered."""
    if isinstance(answer, Reply):
        return answer
    if not isinstance(answer, Wait):
        raise junk("pre_request", answer, "a Reply, a Wait or None")
    deadline_s: object = answer.deadline_s  # what the plugin gave may be anything
    if isinstance(deadline_s, int | float) and math.isfinite(deadline_s) and deadline_s >= 0:
        return answer
    close(answer.awaitable)
    raise TypeError(f"pre_request returned a Wait with the deadline {deadline_s!r}, not seconds")


def check_waited(answer: object) -> Reply:
    """Check what a Wait came to."""
    if not isinstance(answer, Reply):
        raise junk("what pre_request waits for", answer, "a Reply or None")
    return answer


def check_nothing(answer: object) -> None:
    """Drop an answer nobody asked for."""
    close(answer)


def check_filter(answer: object) -> StreamFilter:
    """Check what `stream_filter` answered."""
    if not callable(getattr(answer, "event", None)) or not callable(getattr(answer, "end", None)):
        raise junk("stream_filter", answer, "an object with event and end")
    return cast(StreamFilter, answer)


def check_selection(answer: object, given: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Check that `select_provider` chose from what it was given."""
    if not isinstance(answer, Sequence):
        raise junk("select_provider", answer, "a sequence of candidates")
    chosen = tuple(answer)
    if not chosen:
        raise TypeError("select_provider returned no candidate at all, not even one to try")
    for candidate in chosen:
        if candidate not in given:
            raise TypeError("select_provider returned a candidate that it was not given")
    return chosen


def check_each(hook: str, answer: object, kind: type[ElementT]) -> Sequence[ElementT]:
    """Check that a hook answered a sequence of one kind of thing."""
    if not isinstance(answer, Sequence) or not all(isinstance(each, kind) for each in answer):
        raise junk(hook, answer, f"a list of {kind.__name__}")
    return answer


def check_counts(answer: object) -> JsonObject:
    """Check what `reset` answered."""
    if answer is None:
        return {}
    if not isinstance(answer, Mapping) or not all(isinstance(each, int) for each in answer.values()):
        raise junk("reset", answer, "counts by name")
    return {str(name): count for name, count in answer.items()}


def check_identity(answer: object) -> Identity | None:
    """Check what `identify` answered."""
    if answer is None or isinstance(answer, Identity):
        return answer
    raise junk("identify", answer, "an Identity")


def check_issues(answer: object) -> Sequence[Issue]:
    """Check what `config_issues` answered."""
    issues = check_each("config_issues", answer, Issue)
    for issue in issues:  # what the plugin gave may be anything
        texts: tuple[object, ...] = (issue.kind, issue.path, issue.message, issue.why, issue.command or "")
        patch: object = issue.patch
        if issue.severity not in SEVERITIES or not all(isinstance(each, str) for each in texts):
            raise TypeError(f"config_issues returned an Issue that is none: {issue!r}")
        if patch is not None and not isinstance(patch, dict):
            raise TypeError(f"config_issues returned an Issue whose patch is a {type(patch).__name__}, not a dict")
    return issues
