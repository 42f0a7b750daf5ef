"""What the kernel knows of a TCP connection: how much of what we sent has left, and how much the peer has."""

import platform
import socket
import struct

_LENGTH = 208
_ACKED_AND_SENT = struct.Struct("=120xQ72xQ")
"""`tcpi_bytes_acked` at 120 (Linux 4.2), `tcpi_bytes_sent` at 200 (Linux 4.19)."""

_IS_LINUX = platform.system() == "Linux"


def sent_and_acked(sock: socket.socket) -> tuple[int, int] | None:
    """Count the stream's bytes that left this host, and those the peer's kernel has acknowledged.

    Returns:
        (sent, acked), or None where the kernel does not say. The SYN may count as one acknowledged byte.
    Source:
        struct tcp_info in linux/tcp.h; RFC 4898, tcpEStatsAppHCThruOctetsAcked.
    """
    if not _IS_LINUX:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LENGTH)
    except OSError:
        return None
    if len(info) < _LENGTH:
        return None
    acked, sent = _ACKED_AND_SENT.unpack(info)
    return sent, acked


def never_delivered(sock: socket.socket, sent_before: int, *, peer_closed: bool) -> bool:
    """Whether provably no byte after the first `sent_before` can have been read by the peer.

    Either nothing more has left this host; or the peer closed in order (FIN) and its acknowledgements, which the
    FIN carries too, do not reach past `sent_before`: it had closed before our bytes came. An unacknowledged
    request and a reset prove nothing, because acknowledgements may be delayed by 40 ms and Linux does not count
    the one a reset carries.

    Args:
        sent_before: bytes sent on this connection before those in question.
        peer_closed: the end of the peer's stream was seen.
    """
    counts = sent_and_acked(sock)
    if counts is None:
        return False
    sent, acked = counts
    return sent <= sent_before or (peer_closed and acked <= sent_before + 1)
