"""How many files this process may open, and how many of them its clients' connections may take."""

import resource
from typing import Final

OWN_FILES: Final = 64
"""For what is neither a client's connection nor a provider's: log, state, listeners, clients above the limit."""

FILES_A_REQUEST: Final = 2
"""One at work with a provider, one kept idle for the next."""


def raise_limit() -> None:
    """Open as many files as the system lets this process: the usual 1,024 are too few for thousands of clients."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS, where the hard limit may be more than the kernel takes
        return


def room_for_clients(concurrency: int) -> int:
    """Tell how many connections of clients leave enough files for the rest, which gets half of them at most.

    Without that the kernel accepts no further connection, and none can be opened to a provider.

    Args:
        concurrency: requests at once, `maxConcurrency`.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1 << 30
    return soft - min(OWN_FILES + FILES_A_REQUEST * concurrency, soft // 2)
