"""Servers' side of TLS for tests: certificates as they should be, and each way in which they should not (FAULTS A4)."""

import datetime
import ssl
import warnings
from typing import Literal, get_args

import trustme

BadTls = Literal["expired", "name", "authority", "old", "plain"]
"""Ran out; for another name; from an authority nobody trusts; TLS 1.1; no TLS at all."""
BAD_TLS: tuple[BadTls, ...] = get_args(BadTls)


def server_tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Speak TLS with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def bad_server_tls(fault: BadTls, authority: trustme.CA) -> ssl.SSLContext | None:
    """Speak TLS for 127.0.0.1 as a client that trusts the authority must refuse it; None is a server without TLS."""
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    if fault == "plain":
        return None
    if fault == "expired":
        return server_tls(authority.issue_cert("127.0.0.1", not_after=past))
    if fault == "name":
        return server_tls(authority.issue_cert("other.example"))
    if fault == "authority":
        return server_tls(trustme.CA().issue_cert("127.0.0.1"))
    context = server_tls(authority.issue_cert("127.0.0.1"))
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context
