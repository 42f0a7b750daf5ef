"""Taking a virtual key out of a request, wherever its client put it besides: no provider may see it."""

from urllib.parse import unquote_to_bytes

from proxy.errors import ClientError
from proxy.exchange import Request


def take_out(request: Request, text: str) -> None:
    """Drop every header and query parameter that holds a key; bodies are the client's own words and stay.

    Raises:
        ClientError: it stands in the path.
    """
    key = text.encode("latin-1", "replace")
    if key in request.path or (b"%" in request.path and key in unquote_to_bytes(request.path)):
        raise ClientError("the path holds the key, and would take it to a provider")
    size = len(key)  # most values are too short to hold it, and told apart so in a quarter of the time
    request.headers = [header for header in request.headers if len(header[1]) < size or key not in header[1]]
    if request.query:
        parts = request.query.split(b"&")
        kept = [part for part in parts if key not in unquote_to_bytes(part.replace(b"+", b" "))]
        if len(kept) < len(parts):
            request.query = b"&".join(kept)
