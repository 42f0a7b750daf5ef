"""What a client's path means."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import ClientError, MethodNotAllowed, UnknownPath
from proxy.formats.registry import FORMATS
from proxy.server.routes import RAW, Match, Routes, check_path

ROUTES = Routes(FORMATS.values())


def find(method: str, path: str, query: bytes = b"", **fields: str) -> Match:
    headers = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    return ROUTES.find(method, path, query, headers)


@pytest.mark.parametrize(
    ("method", "path", "format_name", "name"),
    [
        ("POST", "/", "native", "chat"),
        ("POST", "/v1/chat/completions", "openai", "chat"),
        ("POST", "/v1/completions", "openai", "completions"),
        ("POST", "/v1/embeddings", "openai", "embeddings"),
        ("POST", "/v1/responses", "openai", "responses"),
        ("GET", "/v1/models", "openai", "models"),
        ("HEAD", "/v1/models", "openai", "models"),
        ("GET", "/v1/models/gpt-4o", "openai", "model"),
        ("POST", "/v1/messages", "anthropic", "chat"),
        ("POST", "/v1/messages/count_tokens", "anthropic", "count_tokens"),
        ("GET", "/v1beta/models", "gemini", "models"),
        ("POST", "/v1beta/models/gemini-pro:generateContent", "gemini", "generate"),
        ("POST", "/v1beta/models/gemini-pro:streamGenerateContent", "gemini", "stream_generate"),
        ("POST", "/v1beta/models/gemini-pro:countTokens", "gemini", "count_tokens"),
        ("POST", "/v1beta/models/gemini-pro:embedContent", "gemini", "embed"),
        ("POST", "/v1beta/models/gemini-pro:batchEmbedContents", "gemini", "embed_batch"),
        ("POST", "/v1beta/tunedModels/mine:generateContent", "gemini", "generate"),
        ("POST", "/v1/models/gemini-pro:generateContent", "gemini", "generate"),
        ("POST", "/v1alpha/models/gemini-pro:streamGenerateContent", "gemini", "stream_generate"),
        ("GET", "/v1beta/models/gemini-pro", "gemini", "model"),
        ("POST", "/api/chat", "ollama", "chat"),
        ("POST", "/api/generate", "ollama", "generate"),
        ("POST", "/api/embed", "ollama", "embed"),
        ("GET", "/api/tags", "ollama", "models"),
    ],
)
def test_every_path_of_the_command_table_is_served(method: str, path: str, format_name: str, name: str) -> None:
    operation = find(method, path).operation

    assert (operation.format, operation.name) == (format_name, name)


def test_every_operation_of_every_format_is_found_by_its_own_path() -> None:
    marks = {"anthropic": {"anthropic_version": "2023-06-01"}, "gemini": {"x_goog_api_key": "k"}}

    for wire in FORMATS.values():
        for operation in wire.operations:
            path = operation.path.replace("{model}", "m")
            assert find(operation.method, path, **marks.get(wire.name, {})).operation == operation


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m"])
@pytest.mark.parametrize(
    ("query", "fields", "format_name"),
    [
        (b"", {}, "openai"),
        (b"limit=5", {}, "openai"),
        (b"monkey=1", {}, "openai"),
        (b"", {"anthropic_version": "2023-06-01"}, "anthropic"),
        (b"", {"x_goog_api_key": "k"}, "gemini"),
        (b"key=k", {}, "gemini"),
        (b"pageSize=5&key=k", {}, "gemini"),
        (b"key=k", {"anthropic_version": "2023-06-01"}, "anthropic"),
    ],
)
def test_shared_path_is_read_by_the_marks_of_each_sdk(
    path: str, query: bytes, fields: dict[str, str], format_name: str
) -> None:
    assert find("GET", path, query, **fields).operation.format == format_name


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1beta/models/gemini-1.5-pro:generateContent", "gemini-1.5-pro"),
        ("/v1beta/models/google/gemini/pro:generateContent", "google/gemini/pro"),
        ("/v1beta/models/google%2Fpro:generateContent", "google/pro"),
        ("/v1beta/models/llama3:8b:generateContent", "llama3:8b"),
        ("/v1beta/models/a:generateContent:generateContent", "a:generateContent"),
        ("/v1beta/models/f%C3%BCr%3Amich:generateContent", "für:mich"),
    ],
)
def test_model_in_a_path_may_have_slashes_colons_and_escapes(path: str, model: str) -> None:
    match = find("POST", path)

    assert (match.operation.name, match.model) == ("generate", model)


def test_model_of_a_plain_path_may_have_slashes() -> None:
    assert find("GET", "/v1/models/meta/llama-3").model == "meta/llama-3"


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v1",
        "/v1/",
        "/v2/chat/completions",
        "/V1/chat/completions",
        "/v1beta",
        "/v1beta/models/",
        "/v1beta/files",
        "/api",
        "/api/",
        "/api/nothing",
        "/proxy",
        "//",
        "//v1/chat/completions",
        "/chat/completions",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path_is_404(method: str, path: str) -> None:
    with pytest.raises(UnknownPath) as raised:
        find(method, path)
    assert raised.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", ("POST",)),
        ("DELETE", "/v1/messages", ("POST",)),
        ("POST", "/v1/models", ("GET",)),
        ("GET", "/v1beta/models/m:generateContent", ("GET", "POST")),
        ("PUT", "/v1beta/models/m:generateContent", ("GET", "POST")),
        ("GET", "/", ("POST",)),
        ("POST", "/api/tags", ("GET",)),
        ("BREW", "/api/chat", ("POST",)),
    ],
)
def test_wrong_method_is_405_and_says_which_are_allowed(method: str, path: str, allow: tuple[str, ...]) -> None:
    if method == "GET" and "GET" in allow:
        assert find(method, path).operation.name == "model"
        return

    with pytest.raises(MethodNotAllowed) as raised:
        find(method, path)

    assert (raised.value.status, raised.value.allow) == (405, allow)


# -- raw paths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize(
    ("path", "provider", "upstream_path"),
    [
        ("/proxy/openai/files/f-1/content", "openai", "/files/f-1/content"),
        ("/proxy/openai/", "openai", "/"),
        ("/proxy/openai//a//b", "openai", "//a//b"),
        ("/proxy/my.%6Fwn-1/x", "my.own-1", "/x"),
        ("/proxy/a/caf%C3%A9%2Fb;c=1,d/%20", "a", "/caf%C3%A9%2Fb;c=1,d/%20"),
        ("/proxy/a/proxy/b/x", "a", "/proxy/b/x"),
    ],
)
def test_path_of_a_provider_is_relayed_untouched_under_any_method(
    method: str, path: str, provider: str, upstream_path: str
) -> None:
    match = find(method, path)

    assert (match.operation.name, match.operation.reads_body) == (RAW, False)
    assert (match.provider, match.upstream_path) == (provider, upstream_path.encode())


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_openai_path_without_special_handling_is_relayed_without_its_version(method: str) -> None:
    match = find(method, "/v1/files/f%2D1/content")

    assert (match.operation.format, match.operation.name) == ("openai", RAW)
    assert (match.provider, match.upstream_path) == (None, b"/files/f%2D1/content")


def test_anthropic_path_without_special_handling_keeps_its_version() -> None:
    match = find("POST", "/v1/messages/batches", anthropic_version="2023-06-01")

    assert (match.operation.format, match.operation.name) == ("anthropic", RAW)
    assert match.upstream_path == b"/v1/messages/batches"


# -- tricks ---------------------------------------------------------------------------------------------------------

CLIMBS = [
    "/proxy/openai/../../config",
    "/proxy/openai/%2e%2e/config",
    "/proxy/openai/%2E./config",
    "/proxy/openai/..%2fconfig",
    "/proxy/openai/a%2f..%2f..%2fconfig",
    "/proxy/openai/./x",
    "/proxy/openai/..",
    "/proxy/..",
    "/proxy/../config",
    "/proxy/openai/..\\config",
    "/proxy/openai/..%5cconfig",
    "/proxy/openai/a\\b",
    "/proxy/openai/..;/config",
    "/proxy/openai/%2e%2e;x=1/config",
    "/proxy/openai/..%3b/config",
    "/v1/../config",
    "/v1/files/../../config",
    "/v1/files/%2e%2e/%2e%2e/config",
    "/v1beta/models/../../config:generateContent",
    "/v1beta/models/a%2f..%2f..:generateContent",
    "/v1/models/..",
    "/proxy/openai/a%00b",
    "/proxy/openai/a%0d%0aHost:evil",
    "/proxy/openai/a%0ab",
    "/proxy/openai/a%7fb",
    "/v1beta/models/m%0d%0aX:generateContent",
    "/../config",
    "/%2e%2e/config",
]


@pytest.mark.parametrize("path", CLIMBS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_path_that_climbs_or_hides_control_characters_is_refused(method: str, path: str) -> None:
    with pytest.raises(ClientError) as raised:
        find(method, path)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    "path", ["/v1/files/a..b", "/proxy/a/...", "/proxy/a/.well-known/x", "/proxy/a/x;v=..", "/v1/a%252e"]
)
def test_harmless_dots_are_relayed(path: str) -> None:
    assert find("GET", path).operation.name == RAW


TRICKS = st.lists(
    st.sampled_from(
        [
            "..",
            ".",
            "%2e",
            "%2E",
            "%2f",
            "%2F",
            "/",
            "//",
            "\\",
            "%5c",
            ";",
            "%3b",
            "%00",
            "%0d%0a",
            "%",
            "%zz",
            "%25",
            "%252e",
            "?",
            "#",
            "é",
            ":",
            "@",
            "~",
            "a",
            "A",
            "config",
            "health",
            "proxy",
            "openai",
            "v1",
            "models",
        ]
    ),
    max_size=12,
)
PREFIXES = st.sampled_from(["/", "/proxy/openai/", "/v1/", "/v1/files/", "/v1beta/models/", "/api/", "/proxy/", ""])


def climbs(path: str) -> bool:
    """Decode as often as a careless server might, with each of the ways to write a slash, and walk."""
    depth = 0
    for segment in (
        path.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace("\\", "/").split("/")
    ):
        bare = segment.replace("%3b", ";").partition(";")[0]
        depth += -1 if bare == ".." else 0 if bare in ("", ".") else 1
        if bare == ".." or depth < 0:
            return True
    return False


@settings(max_examples=1000)
@given(PREFIXES, TRICKS)
def test_no_trick_reaches_another_prefix_than_it_shows(prefix: str, parts: list[str]) -> None:
    path = prefix + "".join(parts)

    try:
        match = find("POST", path)
    except ClientError:
        return

    assert not climbs(path)
    if match.provider is not None:
        assert path.startswith("/proxy/")
        assert match.upstream_path is not None
        assert path.encode("latin-1", "replace").endswith(match.upstream_path)
        assert match.upstream_path[:1] in (b"", b"/")
    elif match.operation.name == RAW:
        assert match.upstream_path == path.removeprefix("/v1").encode("latin-1", "replace")


@given(st.text(max_size=40))
def test_any_path_is_found_or_refused_in_plain_words(path: str) -> None:
    try:
        find("POST", path)
        refusal = None
    except ClientError as error:
        refusal = error

    assert refusal is None or refusal.status in (400, 404, 405)
    assert refusal is None or len(refusal.message) < 400


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\%;./"), max_size=20))
def test_segment_without_dots_escapes_and_semicolons_is_always_allowed(segment: str) -> None:
    check_path(f"/proxy/a/{segment}")
