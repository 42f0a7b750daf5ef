"""From a request and the scripted Answer to the steps of the response; pure."""

from collections.abc import Iterator
from http import HTTPStatus

import orjson

from proxy.exchange import JsonObject
from proxy.testing.answers import Answer, Body, HeaderFields
from proxy.testing.endpoints import (
    Endpoint,
    Format,
    check_document,
    error_body,
    error_event,
    find_endpoint,
    guess_format,
    is_streaming,
    list_models,
)
from proxy.testing.requests import SeenRequest
from proxy.testing.shapes import gemini
from proxy.testing.shapes.base import StreamShape
from proxy.testing.steps import Faults, Pause, Step, disturb, frame


def respond(request: SeenRequest, answer: Answer, models: tuple[str, ...]) -> Iterator[Step]:
    """Lay out the answer to a request; one that the vendor would refuse gets that refusal instead."""
    if answer.steps is not None:
        return iter(answer.steps)
    spoken = guess_format(request.path, request.header_names)
    if answer.status:
        return _whole(request, _error(spoken, answer), answer)
    found = find_endpoint(request.method, request.path)
    if found is None:
        return refuse(request, 404, f"no such path: {request.method} {request.path}")
    endpoint, path_model = found
    if (problem := check_document(endpoint, request.document)) is not None:
        return refuse(request, 400, problem)
    if endpoint.name == "models":
        return _whole(request, list_models(spoken, models), answer)
    document: JsonObject = request.document
    if path_model is not None:
        document = {**document, "model": path_model}
    if is_streaming(endpoint, document) and endpoint.streamed is not None:
        return _stream(request, endpoint, endpoint.streamed(answer, document), answer, document)
    assert endpoint.whole is not None  # noqa: S101 (for the type checker: only streams lack it)
    return _whole(request, endpoint.whole(answer, document), answer)


def refuse(request: SeenRequest, status: int, message: str) -> Iterator[Step]:
    """Lay out an error in the request's format."""
    spoken = guess_format(request.path, request.header_names)
    return _whole(request, error_body(spoken, status, message), Answer(status=status))


def refusal(request: SeenRequest) -> str | None:
    """Say what is wrong with a request by the rules of the vendor, None if nothing."""
    found = find_endpoint(request.method, request.path)
    if found is None:
        return f"no such path: {request.method} {request.path}"
    return check_document(found[0], request.document)


def _error(spoken: Format, answer: Answer) -> Body:
    if answer.body is not None or answer.status < 400:
        return answer.body
    return error_body(spoken, answer.status, f"fake {answer.status}")


def _whole(request: SeenRequest, body: Body, answer: Answer) -> Iterator[Step]:
    status = answer.status or 200
    content = body if isinstance(body, bytes) else b"" if body is None else _encode(body)
    has_body = request.method != "HEAD" and status not in (204, 304)
    fields: dict[str, str] = {"Content-Type": "application/json", **_identity(request), **answer.headers}
    is_chunked = answer.is_chunked and has_body
    if is_chunked:
        fields["Transfer-Encoding"] = "chunked"
    elif status != 204:
        fields.setdefault("Content-Length", str(len(content)))
    sent = content if has_body else b""
    if not is_chunked:
        sent += answer.faults.bytes_after  # its length is not declared
    events = (sent,) if sent else ()
    return frame(_head(status, fields), events, answer.faults, is_chunked=is_chunked)


def _stream(
    request: SeenRequest, endpoint: Endpoint, shape: StreamShape, answer: Answer, document: JsonObject
) -> Iterator[Step]:
    if endpoint.format == "gemini" and "alt=sse" not in request.query.split("&"):
        shape = gemini.array_stream(answer, document)
    fields: dict[str, str] = {
        "Content-Type": shape.content_type,
        "Cache-Control": "no-cache",
        **_identity(request),
        **answer.headers,
        "Transfer-Encoding": "chunked",
    }
    return frame(_head(200, fields), _events(endpoint, shape, answer), answer.faults, is_chunked=True)


def _events(endpoint: Endpoint, shape: StreamShape, answer: Answer) -> Iterator[Step]:
    faults = answer.faults
    for event in shape.before:
        yield _disturb(event, shape, faults)
    for at, event in enumerate(shape.texts):
        if answer.gate is not None and at == answer.gate_after:
            yield answer.gate
        if answer.delay_s and at:
            yield Pause(answer.delay_s)
        yield _disturb(event, shape, faults)
    if answer.gate is not None and answer.gate_after >= len(shape.texts):
        yield answer.gate
    if faults.error_event is not None:
        yield _disturb(error_event(endpoint, faults.error_event), shape, faults)
    elif not faults.without_end:
        for event in shape.end:
            yield _disturb(event, shape, faults)


def _disturb(event: bytes, shape: StreamShape, faults: Faults) -> bytes:
    return disturb(event, faults) if shape.is_sse else event


def _identity(request: SeenRequest) -> dict[str, str]:
    spoken = guess_format(request.path, request.header_names)
    return {"openai": {"x-request-id": "req_fake1"}, "anthropic": {"request-id": "req_fake1"}}.get(spoken, {})


def _encode(body: str | JsonObject) -> bytes:
    return body.encode() if isinstance(body, str) else orjson.dumps(body)


def _head(status: int, fields: HeaderFields) -> bytes:
    reasons = {code.value: code.phrase for code in HTTPStatus}
    lines = [
        f"HTTP/1.1 {status} {reasons.get(status, 'Unknown')}",
        *(f"{key}: {value}" for key, value in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
