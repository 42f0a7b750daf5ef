"""The native API of this proxy: deltas, and the whole reply in the event that ends them."""

from proxy.exchange import JsonObject
from proxy.formats.arranging.base import Arranger, StreamForm, Unarrangeable
from proxy.formats.arranging.material import pieces_of, read_events, text_in, write_document


class NativeArranger(Arranger):
    """Takes the reply from the last event of a stream; writes its text as deltas before it."""

    def collect(self, body: bytes) -> JsonObject:
        """Return the reply of `event: done`, whose text is that of the deltas."""
        events = read_events(body).events
        if not events or events[-1].name != "done":
            raise Unarrangeable("no event that ends the stream")
        *deltas, last = events
        texts: list[str] = []
        for name, delta in deltas:
            if name is not None or delta.keys() != {"delta"}:
                raise Unarrangeable("an event that is no delta")
            texts.append(text_in(delta["delta"]))
        if "".join(texts) != last.document.get("response"):
            raise Unarrangeable("deltas and reply differ")
        return last.document

    def check(self, reply: JsonObject) -> None:
        """Look whether there is an answer and no error."""
        text_in(reply.get("response"))
        if reply.get("error") or not text_in(reply.get("finishReason")):
            raise Unarrangeable("an error, or no end")

    def spread(self, reply: JsonObject, form: StreamForm) -> bytes:
        """Write deltas and the reply."""
        deltas = (write_document({"delta": piece}) for piece in pieces_of(reply["response"]))
        return b"".join((*deltas, write_document(reply, "done")))
