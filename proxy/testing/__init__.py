"""For tests of ours and of plugin authors: a fake provider, a bad way to it, the proxy itself, a raw client."""

from proxy.testing.answers import Answer, ToolCall
from proxy.testing.fake_provider import FakeProvider
from proxy.testing.fault import Fault
from proxy.testing.fault_proxy import FaultProxy
from proxy.testing.harness import ChatReply, ProxyHarness
from proxy.testing.proxy_process import ProxyProcess
from proxy.testing.raw_client import CutOff, RawClient, RawResponse, encode_request
from proxy.testing.requests import EarlyClose, SeenRequest
from proxy.testing.steps import Cut, Faults, HalfClose, Pause, Stall, Step

__all__ = [
    "Answer",
    "ChatReply",
    "Cut",
    "CutOff",
    "EarlyClose",
    "FakeProvider",
    "Fault",
    "FaultProxy",
    "Faults",
    "HalfClose",
    "Pause",
    "ProxyHarness",
    "ProxyProcess",
    "RawClient",
    "RawResponse",
    "SeenRequest",
    "Stall",
    "Step",
    "ToolCall",
    "encode_request",
]
