"""The verbs on the cache."""

from pathlib import Path
from typing import Any

from tests.proxy.cli.rig import Run, ScriptedProxy

STATUS: dict[str, Any] = {
    "store": "memory",
    "size": 12,
    "maxSize": 1000,
    "bytes": 1 << 20,
    "maxBytes": 64 << 20,
    "evictions": {"size": 0, "ttl": 3},
    "hitRate": 0.75,
    "hits": 8,
    "stale": 1,
    "coalesced": 0,
    "misses": 3,
    "bypassed": 2,
    "missesByReason": {"absent": 2, "expired": 1},
    "bypassedByReason": {"the request asks for it": 2},
    "notKeptByReason": {"calls a tool": 1},
    "saved": {"usd": 1.25, "seconds": 12.34, "tokens": 4200, "answersWithoutPrice": 1},
}
ENTRY = {
    "key": "ab" * 16,
    "model": "gpt\x1b[1m",
    "operation": "openai.chat",
    "shape": "whole",
    "caller": "caller-1",
    "storedAt": "2026-01-31T14:00:00Z",
    "freshS": -1.0,
    "hits": 3,
}


def test_status_tells_rate_reasons_room_and_savings(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/cache/status", STATUS)

    ended = ask("cache")

    assert ended.output.splitlines() == [
        "75.0% of the requests were answered from the cache",
        "requests:  8 hits, 1 stale, 0 coalesced, 3 misses, 2 bypassed",
        "missed:    2 absent, 1 expired",
        "bypassed:  2 the request asks for it",
        "not kept:  1 calls a tool",
        "kept:      12 of 1000 answers, 1.0 of 64.0 MB; gone: 3 ttl",
        "saved:     $1.2500, 12.3 s, 4,200 tokens (1 answers have no known price)",
    ]


def test_entries_are_a_table(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/cache/entries", {"entries": [ENTRY], "total": 5})

    ended = ask("cache", "entries", "--model", "gpt", "--older-than", "1h", "--limit", "1")

    header, row, more = ended.output.splitlines()
    assert header.split() == ["KEY", "MODEL", "OPERATION", "FORM", "CALLER", "STORED", "FRESH", "FOR", "HITS"]
    assert row.split()[1:] == ["gpt\\x1b[1m", "openai.chat", "whole", "caller-1", "2026-01-31T14:00:00Z", "stale", "3"]
    assert more == "the newest 1 of 5"
    assert scripted.requests[0].query == {"model": "gpt", "olderThan": "1h", "limit": "1"}


def test_clear_says_how_much_went(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("DELETE", "/cache", {"cleared": 7})

    assert ask("cache", "clear", "--caller", "caller-1").output == "7 answers thrown away\n"
    assert scripted.requests[0].query == {"caller": "caller-1"}


def test_explain_sends_the_request_and_names_what_differs(ask: Run, scripted: ScriptedProxy, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"model": "a"}')
    nearest = {"key": "ab" * 16, "ageS": 12.3, "differs": ["temperature", "(caller)"]}
    scripted.on("POST", "/cache/explain", {"outcome": "miss", "reason": "absent", "entry": None, "nearest": nearest})

    ended = ask("cache", "explain", str(file), "--path", "/v1/embeddings", "--header", "X-A=b=c", "--key-id", "k1")

    assert ended.output.splitlines() == [
        "miss: absent",
        f"nearest: {'ab' * 16}, asked 12 s ago; what differs: temperature, (caller)",
    ]
    assert scripted.requests[-1].body == {
        "path": "/v1/embeddings",
        "headers": {"X-A": "b=c"},
        "body": {"model": "a"},
        "keyId": "k1",
    }


def test_explain_refuses_what_is_no_json(ask: Run, scripted: ScriptedProxy, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text("{")

    ended = ask("cache", "explain", str(file))

    assert ended.code == 1
    assert "cannot be read as JSON" in ended.errors
