"""Asks a proxy for /livez every 20 ms from a process of its own, and says how long its event loop kept us waiting.

Called with port and process id; runs until its input ends. Prints `ready`, then one line of JSON, times in seconds:
`{"worst": longest answer less what the scheduler withheld from either of us, "noise": longest oversleeping of ours}`.
"""

import json
import select
import socket
import sys
import time
from pathlib import Path

EVERY_S = 0.02
ASK = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def withheld_s(pid: str) -> float:
    """How long a process's main thread has been ready to run without running; 0 where the kernel does not say."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def main(port: str, pid: str) -> None:
    own = str(Path("/proc/self").readlink())
    worst = noise = 0.0
    asked = 0
    with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as sock:
        print("ready", flush=True)
        next_s = time.monotonic()
        while not select.select([sys.stdin], [], [], max(0.0, next_s - time.monotonic()))[0]:
            before_s = withheld_s(pid) + withheld_s(own)
            began_s = time.monotonic()
            noise = max(noise, began_s - next_s)
            sock.sendall(ASK)
            answer = b""
            while b"alive" not in answer:
                data = sock.recv(4096)
                if not data:
                    sys.exit("the proxy closed the probe's connection")
                answer += data
            took_s = time.monotonic() - began_s
            worst = max(worst, took_s - (withheld_s(pid) + withheld_s(own) - before_s))
            asked += 1
            next_s = max(next_s + EVERY_S, time.monotonic())
    print(json.dumps({"worst": worst, "noise": noise, "asked": asked}))


if __name__ == "__main__":
    main(*sys.argv[1:])
