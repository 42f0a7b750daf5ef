"""What the kernel knows of a TCP connection: how much of what we sent has left, and how much the peer has."""

import platform
import socket
import struct

_LENGTH = 208
_ACKED_AND_SENT = struct.Struct("=120xQ72xQ")
"""`tcpi_bytes_acked` at 120 (Linux 4.2), `tcpi_bytes_sent` at 200 (Linux 4.19)."""

_IS_LINUX = platform.system() == "Linux"


def sent_and_acked(sock: socket.socket) -> tuple[int, int] | None:
    """Count bytes as the kernel does.

    Returns:
        (sent, acked), or None where the kernel does not say. `sent` counts retransmissions again; `acked` is the
        position in our stream up to which the peer's kernel has what we sent, with the SYN counted as one byte.
    Source:
        struct tcp_info in linux/tcp.h; RFC 4898, tcpEStatsPerfHCDataOctetsOut and tcpEStatsAppHCThruOctetsAcked.
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


def position(sock: socket.socket) -> int:
    """Find how far the peer has acknowledged our stream, SYN included; 0 if unknown."""
    counts = sent_and_acked(sock)
    return 0 if counts is None else counts[1]


def never_delivered(sock: socket.socket, mark: int, *, peer_closed: bool) -> bool:
    """Whether provably nothing that was sent after `mark` can have been read by the peer.

    Either nothing more has left this host; or the peer closed in order (FIN) and its acknowledgements, which the
    FIN carries too, do not reach past `mark`: it had closed before our bytes came. An unacknowledged request and a
    reset prove nothing, because acknowledgements may be delayed by 40 ms and Linux does not count the one that a
    reset carries.

    Args:
        mark: a position no later than the end of all that was sent before the bytes in question. It must not be
            taken from the count of bytes sent: one retransmission would push it past the request.
        peer_closed: the end of the peer's stream was seen.
    """
    counts = sent_and_acked(sock)
    if counts is None:
        return False
    sent, acked = counts
    return sent < mark or (peer_closed and acked <= mark)
