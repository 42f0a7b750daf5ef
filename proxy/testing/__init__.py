"""For tests of ours and of plugin authors: a fake provider, a raw client, the proxy as a process."""

from proxy.testing.answers import Answer, ToolCall
from proxy.testing.fake_provider import FakeProvider
from proxy.testing.proxy_process import ProxyProcess
from proxy.testing.raw_client import CutOff, RawClient, RawResponse, encode_request
from proxy.testing.requests import EarlyClose, SeenRequest
from proxy.testing.steps import Cut, Faults, Pause, Stall, Step

__all__ = [
    "Answer",
    "Cut",
    "CutOff",
    "EarlyClose",
    "FakeProvider",
    "Faults",
    "Pause",
    "ProxyProcess",
    "RawClient",
    "RawResponse",
    "SeenRequest",
    "Stall",
    "Step",
    "ToolCall",
    "encode_request",
]
