"""The table of a chaos run, with the limits it is held to."""

from collections import Counter

from scripts.chaos_parts.run import Run

MOST_ATTEMPTS = 1.2
LEAST_SUCCESS = 0.999


def success(run: Run) -> float:
    """Give the share of whole answers among requests whose response had not begun when its provider failed."""
    fates = Counter(outcome.fate for outcome in run.outcomes)
    could = len(run.outcomes) - fates["broken and told"]
    return fates["answered"] / could if could else 0.0


def misses(run: Run) -> list[str]:
    """List what the run did not hold; empty if all is well."""
    fates = Counter(outcome.fate for outcome in run.outcomes)
    found = [f"{fates[fate]} {fate}" for fate in ("unanswered", "answered twice", "broken in silence") if fates[fate]]
    if fates["broken and told"] > run.cut:
        found.append(f"{fates['broken and told']} answers broke off, and only {run.cut} were cut")
    if success(run) < LEAST_SUCCESS:
        found.append(f"success {success(run):.3%} is below {LEAST_SUCCESS:.1%}")
    if (ratio := run.attempts / len(run.outcomes)) > MOST_ATTEMPTS:
        found.append(f"{ratio:.3f} attempts a request are more than {MOST_ATTEMPTS}")
    if run.in_flight_after:
        found.append(f"{run.in_flight_after} requests are still in flight")
    if run.traceback:
        found.append(f"a traceback: {run.traceback}")
    return found


def report(run: Run) -> str:
    """Write the table."""
    fates = Counter(outcome.fate for outcome in run.outcomes)
    total = len(run.outcomes)
    durations = sorted(outcome.duration_s * 1000 for outcome in run.outcomes if outcome.fate == "answered")
    lines = [
        f"chaos seed {run.seed}: {run.seconds:g} s, {run.rate:g} requests/s, 3 providers",
        "",
        "  providers were                seconds",
        *(f"    {name:<26}{seconds:>9.1f}" for name, seconds in sorted(run.sick_s.items(), key=lambda item: -item[1])),
        "",
        "  clients got                  requests    share",
        *(f"    {fate:<26}{count:>9}{count / total:>9.2%}" for fate, count in fates.most_common()),
        "",
        f"    success{success(run):>28.3%}    at least {LEAST_SUCCESS:.1%}, of those whose answer had not begun",
        f"    attempts a request{run.attempts / total:>17.3f}    at most {MOST_ATTEMPTS}",
        f"    whole answers, ms{_at(durations, 0.5):>18.1f}    p50; p99 {_at(durations, 0.99):.1f}",
        f"    events{'':>19}{', '.join(f'{count} {kind}' for kind, count in sorted(run.events.items())) or 'none'}",
    ]
    refused = Counter(outcome.text[:300] for outcome in run.outcomes if outcome.fate == "refused")
    if refused:
        lines += ["", "  refusals", *(f"    {count:>4}  {text}" for text, count in refused.most_common(3))]
    missed = misses(run)
    return "\n".join([*lines, "", *(f"MISSED: {one}" for one in missed), "" if missed else "all limits are kept"])


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0
