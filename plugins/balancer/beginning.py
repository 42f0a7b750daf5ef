"""What a conversation begins with, whatever the format: the part of a prompt that no later turn changes."""

from typing import Any, Final

from proxy.exchange import JsonObject

INSTRUCTIONS: Final = ("system", "systemInstruction", "system_instruction", "instructions")
TURNS: Final = ("messages", "contents", "input", "prompt")
BEFORE_AN_ANSWER: Final = ("user", "system", "developer")
TOOLS_WITHIN: Final = ("functionDeclarations", "function_declarations")
CONTENT: Final = (
    *("text", "content", "parts", "images", "image_url", "url", "source", "data", "inlineData", "inline_data"),
    *("fileData", "file_data", "fileUri", "file_uri", "file_id", "file", "input_audio"),
)
"""Keys under which a message keeps what was said. Others change from turn to turn, such as `cache_control`."""

WHOLE_CHARS: Final = 2048
"""A longer text is known by its length, its first 1,024 characters and its last: a question can stand at either end of
a document, and pictures differ behind their headers."""
PART_BUDGET: Final = 16_384
"""Characters that are taken of the instructions, of the tools, and of the turns; the rest of each is not looked at."""
PLACE_COST: Final = 128
"""What looking at a place costs of it: a body of many empty ones, beside or within each other, is as soon left alone as
one of long texts."""


class Beginning:
    """Collects system prompt, names of tools, and the messages before the first answer.

    A text counts the same as a list of one part with this text: clients change between the two from turn to turn.
    """

    def __init__(self, document: JsonObject) -> None:
        self.texts: list[str] = []
        self._left = PART_BUDGET
        for key in INSTRUCTIONS:
            if key in document:
                self._read(document[key])
        self._left = PART_BUDGET
        self._read_tools(document.get("tools"))
        self._left = PART_BUDGET
        for key in TURNS:
            if turns := document.get(key):
                self._read_turns(turns)
                break

    def _read_turns(self, turns: Any) -> None:  # Any: the client's JSON
        if not isinstance(turns, list):
            self._read(turns)
            return
        for turn in turns:
            if self._left <= 0 or (isinstance(turn, dict) and not _is_before_an_answer(turn)):
                return
            self._read(turn)

    def _read(self, value: Any) -> None:  # Any: the client's JSON
        self._left -= PLACE_COST
        if isinstance(value, str):
            self._take(value)
        elif isinstance(value, list):
            for each in value:
                if self._left <= 0:
                    return
                self._read(each)
        elif isinstance(value, dict):
            for key in CONTENT:
                if key in value and self._left > 0:
                    self._read(value[key])

    def _read_tools(self, tools: Any, *, is_within: bool = False) -> None:  # Any: the client's JSON
        if not isinstance(tools, list):
            return
        for tool in tools:
            if self._left <= 0:
                return
            self._left -= PLACE_COST
            if not isinstance(tool, dict):
                continue
            name = tool.get("name")
            if name is None and isinstance(function := tool.get("function"), dict):
                name = function.get("name")
            if isinstance(name, str):
                self._take(name)
            elif not is_within:
                for key in TOOLS_WITHIN:
                    self._read_tools(tool.get(key), is_within=True)

    def _take(self, text: str) -> None:
        if len(text) > WHOLE_CHARS:
            text = f"{len(text)}\0{text[: WHOLE_CHARS // 2]}\0{text[-WHOLE_CHARS // 2 :]}"
        self._left -= len(text)
        self.texts.append(text)


def _is_before_an_answer(turn: JsonObject) -> bool:
    """Tell what the client said from answers, calls of tools and their results."""
    role = turn.get("role")
    return role in BEFORE_AN_ANSWER or (role is None and "type" not in turn)
