"""What a provider is sent: the request's head and body, with the right key and only that."""

from typing import Final

import orjson

from proxy.errors import ClientError
from proxy.exchange import Candidate, Exchange
from proxy.formats.base import Format
from proxy.formats.json_body import replace_model
from proxy.formats.registry import FORMATS
from proxy.providers.base import RemoteProvider
from proxy.providers.vendors import ANTHROPIC_VERSION
from proxy.upstream.endpoint import Endpoint
from proxy.upstream.headers import begin_head, frame_head, strip_query_key, write_request_headers

MAX_WRITTEN_HEADS: Final = 16
"""Providers for which the written head of one connection is kept."""
MAX_WRITTEN_HEAD_BYTES: Final = 4 << 10
"""Larger heads are written anew for each request, so that an idle connection holds little."""

BODILESS_METHODS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})

CREDENTIAL_NAMES: Final = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key", b"cookie"})

IDENTITY: Final = (b"Accept-Encoding", b"identity")
"""Asked for where the response is read for usage and completeness."""


class Outgoing:
    """One request to one provider.

    Args:
        credential: the provider's key to use; None where this proxy holds none.
        client_key: the client's own key where it may go to this provider.
    """

    __slots__ = (
        *("_candidate", "_client_key", "credential", "endpoint", "exchange", "is_translated", "operation", "provider"),
        "wire",
    )

    def __init__(
        self,
        exchange: Exchange,
        candidate: Candidate,
        endpoint: Endpoint,
        provider: RemoteProvider,
        credential: str | None,
        client_key: str | None,
    ) -> None:
        self.exchange = exchange
        self._candidate = candidate
        self.endpoint = endpoint
        self.provider = provider
        self.credential = credential
        self._client_key = client_key
        operation = exchange.request.operation
        self.wire: Format | None = None if operation.name == "raw" else provider.format
        """The provider's format where it is the client's too, or is translated to; None on raw paths."""
        self.operation = operation
        """What the provider is asked for: another one than the client's where `write` has translated it."""
        self.is_translated = False
        """Whether the provider is asked in another format than the client's; known once it is written."""

    @property
    def model(self) -> str | None:
        """The provider's name of the model."""
        return self._candidate.model

    def write(self) -> tuple[bytes, bytes]:
        """Write the request's head and body.

        Raises:
            ClientError: something of the client's would break out of its line, or a form names another model.
        """
        request, wire = self.exchange.request, self.wire
        if wire is not None and wire.name != self.operation.format:
            return self._translated(wire)
        body, model, upload = request.body, self._candidate.model, request.upload
        if model is not None and self.exchange.named_provider is None:
            document = request.document
            if document is not None:
                if document.get("model", model) != model:
                    body = replace_model(body, document, model)
            elif upload is not None and model != request.model:
                raise self._fixed_form(model)
        head = self._begin_head(model)
        if upload is not None:
            return frame_head(head, upload.length, is_chunked=upload.length is None), body
        length = len(body)
        return frame_head(head, length if length or request.method not in BODILESS_METHODS else None), body

    def _fixed_form(self, model: str) -> ClientError:
        asked = self.exchange.request.model
        return ClientError(
            f"{self.provider.name} knows {asked!r} as {model!r}, and a form is passed on as it is: send that name"
        )

    def _begin_head(self, model: str | None) -> bytes:
        """Write the request head up to its framing, with the right key for the provider, and only that.

        Clients repeat their headers request after request: the head written last is taken again where all is alike,
        but never one that carries a client's own key.

        Raises:
            ClientError: something of the client's would break out of its line.
        """
        request, provider, rules = self.exchange.request, self.provider, self.endpoint.rules
        headers = tuple(request.headers)  # a plugin's list may change afterwards
        is_plain = self.wire is not None and self._client_key is None
        asked = (
            (provider, self.operation, model, headers, request.method, request.path, request.query)
            if is_plain
            else None
        )
        if asked is not None:
            known = request.written_heads.get((provider.name, self.credential))
            if known is not None and known[0] == asked:
                return known[1]
        path = request.path
        if self.wire is None:
            query, own = self._own_on_raw_path()
        else:
            path = provider.call_path(self.operation, request, model)
            query = strip_query_key(request.query)
            own = [*provider.own_headers(self.credential, self._client_key, headers), IDENTITY]
        lines = write_request_headers(rules.choose(headers, own))
        head = begin_head(request.method.encode("ascii"), provider.target(path, query), provider.host_header, lines)
        if asked is not None and len(head) <= MAX_WRITTEN_HEAD_BYTES:
            if len(request.written_heads) >= MAX_WRITTEN_HEADS:
                request.written_heads.clear()
            request.written_heads[provider.name, self.credential] = asked, head
        return head

    def _own_on_raw_path(self) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """On raw paths the client's own credentials pass as they are, where the proxy holds none for the provider."""
        request, provider = self.exchange.request, self.provider
        own = provider.own_headers(self.credential, None, request.headers)
        if encoding := request.header(b"accept-encoding"):
            own = [*own, (b"Accept-Encoding", encoding)]
        is_withheld = self._client_key is None and self.exchange.caller is not None
        if provider.has_credential or is_withheld:
            return strip_query_key(request.query), own
        theirs = [header for header in request.headers if header[0].lower() in CREDENTIAL_NAMES]
        return request.query, [*own, *theirs]

    def _translated(self, wire: Format) -> tuple[bytes, bytes]:
        request, provider = self.exchange.request, self.provider
        client_wire = FORMATS[self.operation.format]
        chat = client_wire.read_request(self.operation, request.document or {})
        chat.model = self._candidate.model
        chat.include_usage = chat.is_streaming
        name, document = wire.write_request(chat)
        operation = wire.operation(name)
        path, _, query = wire.upstream_path(operation, chat.model).partition(b"?")
        body = orjson.dumps(document)
        held = provider.own_headers(self.credential, self._client_key, request.headers)
        own = [(b"Content-Type", b"application/json"), *held]
        if wire.name == "anthropic" and not any(name.lower() == ANTHROPIC_VERSION[0] for name, _ in own):
            own.append(ANTHROPIC_VERSION)
        head = begin_head(b"POST", provider.target(path, query), provider.host_header, write_request_headers(own))
        self.operation, self.is_translated = operation, True
        return frame_head(head, len(body)), body
