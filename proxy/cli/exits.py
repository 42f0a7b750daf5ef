"""Exit codes of the verbs, and the exception that ends a verb with one."""

from typing import Final

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as a shell reports it."""


class Failed(Exception):
    """A verb cannot go on.

    Args:
        message: for the error output, one or more lines; never a token.
        code: one of the exit codes above.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
