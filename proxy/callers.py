"""Who a request counts for: a virtual key, a credential by its digest, or else the address it comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import ip_address
from typing import Final, Literal

Counted = Literal["requests", "inputTokens", "outputTokens", "totalTokens", "costUsd", "concurrent"]
"""What a limit counts; `concurrent` are requests in work at once."""


CALLER_KINDS: Final = ("key:", "credential:", "peer:")
"""What ids of callers begin with: a virtual key's id, the digest of a credential, or an address follows."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much one caller may have: `amount` of what is counted in each `per_s` seconds; 0 for what is concurrent."""

    counts: Counted
    amount: float
    per_s: float


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whom a plugin has recognised.

    Args:
        id: never changes; not secret.
        name: for people.
        limits: to be held by whoever limits.
        metadata: what operators noted of it.
        may_use: tells whether a model, by the name clients write, is for it; None: all are. For lists that are shown
            to it: whoever recognised the caller refuses the others.
    """

    id: str
    name: str
    limits: tuple[Allowance, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    may_use: Callable[[str], bool] | None = None


def digest_of(credential: str) -> str:
    """Give the name under which a credential is counted and its answers are kept; the same in every process.

    Returns:
        32 hexadecimal digits, of the whole credential. Not for people: a short credential could be guessed from it.
    """
    return blake2b(credential.encode("utf-8", "surrogatepass"), digest_size=16, person=b"switchyard").hexdigest()


def is_address(text: str) -> bool:
    """Tell whether it is an IP address, by which callers without a credential are named."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
