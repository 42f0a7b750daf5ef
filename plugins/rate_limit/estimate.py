"""How many tokens a request will take, guessed before any provider counts them, and corrected by what they counted."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

ASCII_CHARS_PER_TOKEN: Final = 4
OTHER_CHARS_PER_TOKEN: Final = 2
"""Letters of two bytes in UTF-8: Latin with accents, Cyrillic, Greek, Arabic, Hebrew."""
IMAGE_TOKENS: Final = 800
"""For what is not text: about what vendors ask for an image of 1,024 by 1,024."""
MESSAGE_TOKENS: Final = 3
"""What each object costs besides its text: roles and marks between messages."""
FIRST_OUTPUT_TOKENS: Final = 256
"""Until a model has answered, and where the client sets no limit itself."""

SKIPPED: Final = frozenset({"model", "stream", "stream_options", "role", "type", "id", "user", "metadata"})
"""Keys of a request whose text is not the model's to read."""
BINARY: Final = frozenset({"data", "image_url", "file_data", "fileData", "inlineData", "inline_data", "images"})
MOST_VALUES: Final = 20_000
"""Values of a request that are looked at; the rest is guessed from the size of its body."""

NATIVE: Final = "native"
MOST_MODELS: Final = 1000
STREAM_BYTES: Final = 150
REPLY_BYTES: Final = 6
MOST_STREAM_BYTES: Final = 260
"""Of a stream for each output token, while nothing is known of the model: so long are vendors' chunks of one token."""
NATIVE_STREAM_BYTES: Final = 24
MOST_NATIVE_STREAM_BYTES: Final = 40
"""The same of streams in the native format."""
WEIGHT: Final = 0.1
"""Of the newest request in a moving average."""
LEAST_RATIO: Final = 0.1
MOST_RATIO: Final = 10.0

_TWO_BYTES: Final = bytes(range(0xC2, 0xE0))
_THREE_BYTES: Final = bytes(range(0xE0, 0xF0))
_FOUR_BYTES: Final = bytes(range(0xF0, 0xF5))


def tokens_of_text(text: str) -> float:
    """Guess the tokens of a text: four ASCII characters, two of other alphabets, one of CJK, half of an emoji."""
    if text.isascii():
        return len(text) / ASCII_CHARS_PER_TOKEN
    data = text.encode("utf-8", "surrogatepass")
    two, three, four = (_count(data, leads) for leads in (_TWO_BYTES, _THREE_BYTES, _FOUR_BYTES))
    ascii_chars = len(text) - two - three - four
    return ascii_chars / ASCII_CHARS_PER_TOKEN + two / OTHER_CHARS_PER_TOKEN + three + 2 * four


def _count(data: bytes, leads: bytes) -> int:
    """Count the characters whose first byte is one of these."""
    return len(data) - len(data.translate(None, leads))


def tokens_of_request(document: Mapping[str, Any] | None, body_bytes: int) -> float:  # Any: the client's JSON
    """Guess the input tokens of a request, whatever its format: all text in it, tools and their schemas included.

    Args:
        document: the parsed body; None where it was not parsed.
        body_bytes: size of the body, for what is not looked at.
    """
    if document is None:
        return body_bytes / ASCII_CHARS_PER_TOKEN
    tokens, seen = 0.0, 0
    waiting: list[Any] = [document]  # Any: as above
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > MOST_VALUES:
            return max(tokens, body_bytes / ASCII_CHARS_PER_TOKEN)
        if isinstance(value, str):
            tokens += IMAGE_TOKENS if value.startswith("data:") else tokens_of_text(value)
        elif isinstance(value, dict):
            tokens += MESSAGE_TOKENS
            for key, inner in value.items():
                if key in BINARY:
                    tokens += IMAGE_TOKENS * (len(inner) if isinstance(inner, list) else 1)
                elif key not in SKIPPED:
                    tokens += len(key) / ASCII_CHARS_PER_TOKEN
                    waiting.append(inner)
        elif isinstance(value, list):
            waiting.extend(value)
        elif value is not None:
            tokens += 1
    return tokens


class Form(NamedTuple):
    """In what form an answer is sent: the format of the client, and whether it is a stream."""

    format: str
    is_stream: bool

    @property
    def bytes_per_token(self) -> int:
        """What is usual, while nothing is known of a model."""
        if not self.is_stream:
            return REPLY_BYTES
        return NATIVE_STREAM_BYTES if self.format == NATIVE else STREAM_BYTES

    @property
    def most_bytes_per_token(self) -> int:
        """The largest that is usual."""
        return MOST_NATIVE_STREAM_BYTES if self.format == NATIVE else MOST_STREAM_BYTES


class Habits:
    """What is known of one model: how far guesses are off, and how long its answers are."""

    __slots__ = ("bytes_per_token", "output_tokens", "ratio")

    def __init__(self) -> None:
        self.ratio = Average(1.0)
        """True input tokens for each one guessed."""
        self.output_tokens = Average(FIRST_OUTPUT_TOKENS)
        self.bytes_per_token: dict[Form, Average] = {}
        """Bytes of the response for each output token; its chunks are ten times as long in one form as in another."""

    def bytes_in(self, form: Form) -> "Average":
        """Give what is known of the size of answers in one form."""
        known = self.bytes_per_token.get(form)
        if known is None:
            known = self.bytes_per_token[form] = Average(form.bytes_per_token)
        return known


class Average:
    """A moving average: at first of all there was, later of the last ones most."""

    __slots__ = ("count", "value")

    def __init__(self, value: float) -> None:
        self.value = value
        self.count = 0

    def add(self, value: float) -> None:
        """Take one more into account; the first takes the place of what was guessed."""
        self.count += 1
        self.value += max(WEIGHT, 1 / self.count) * (value - self.value)


class Estimator:
    """Guesses tokens by model, and learns from every answer whose usage is known; bounded in models."""

    def __init__(self) -> None:
        self._habits: OrderedDict[str, Habits] = OrderedDict()

    def of(self, model: str) -> Habits:
        """Give what is known of a model."""
        habits = self._habits.get(model)
        if habits is None:
            habits = self._habits[model] = Habits()
            if len(self._habits) > MOST_MODELS:
                self._habits.popitem(last=False)
        else:
            self._habits.move_to_end(model)
        return habits

    def input_tokens(self, model: str, guessed: float) -> int:
        """Correct a guess by what was learned of the model."""
        return math.ceil(guessed * self.of(model).ratio.value)

    def output_tokens(self, model: str, most: int | None, choices: int = 1) -> int:
        """Guess the output: as much as the client allows, or else as much as is usual.

        Args:
            most: what the client allows for one answer.
            choices: how many answers it wants.
        """
        return math.ceil(self.of(model).output_tokens.value if most is None else most) * choices

    def learn_input(self, model: str, guessed: float, true_tokens: int) -> None:
        """Learn from a request whose input was counted."""
        if guessed > 0 and true_tokens > 0:
            self.of(model).ratio.add(min(max(true_tokens / guessed, LEAST_RATIO), MOST_RATIO))

    def learn_output(self, model: str, true_tokens: int, sent_bytes: int, form: Form) -> None:
        """Learn from an answer whose output was counted."""
        habits = self.of(model)
        habits.output_tokens.add(true_tokens)
        if true_tokens > 0 and sent_bytes > 0:
            habits.bytes_in(form).add(sent_bytes / true_tokens)

    def output_of_bytes(self, model: str, sent_bytes: int, form: Form) -> int:
        """Guess the output tokens of an answer that nobody counted, from its size: rather too many than too few."""
        return math.ceil(sent_bytes / self.of(model).bytes_in(form).value)

    def least_output(self, model: str, form: Form, sent_bytes: int) -> int:
        """Guess the tokens of a stream so far: rather too few than too many."""
        known = self.of(model).bytes_in(form)
        return int(sent_bytes / (known.value if known.count else form.most_bytes_per_token))
