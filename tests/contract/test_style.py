"""The rules of STYLE.md that a syntax tree can show."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator

import pytest

from tests.contract.sources import Source, parse, read_sources

Finding = tuple[int, str]
Rule = Callable[[Source], Iterator[Finding]]

MOST_LINES_OF_FILE = 500
MOST_LINES_OF_FUNCTION = 50
SECRET_NAME = re.compile(r"(^|_)(token|secret|api_?key|password)$", re.IGNORECASE)
SUPPRESSION = re.compile(r"#\s*(?:type:\s*ignore|noqa)\b(\[[\w, -]+\]|:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?", re.IGNORECASE)
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
UNSAFE_CALLS = {"eval", "exec", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}
MUTABLE = {"list", "dict", "set", "bytearray", "deque", "defaultdict", "OrderedDict", "Counter"}


def size(source: Source) -> Iterator[Finding]:
    lines = source.text.count("\n")
    if lines > MOST_LINES_OF_FILE:
        yield 1, f"{lines} lines, the wall is {MOST_LINES_OF_FILE}: split by subject"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_LINES_OF_FUNCTION:
                yield node.lineno, f"{node.name} has {lines} lines, the wall is {MOST_LINES_OF_FUNCTION}"


def module_docstring(source: Source) -> Iterator[Finding]:
    if not ast.get_docstring(source.tree):
        yield 1, "no docstring: open with one sentence on the module's subject"


def module_state(source: Source) -> Iterator[Finding]:
    """`global`, and containers that start empty at module level: nobody makes one but to fill it."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            yield node.lineno, "global: pass state to constructors"
    for statement in source.tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and _is_empty_container(statement.value):
            yield statement.lineno, "module-level mutable state: pass state to constructors"


def _is_empty_container(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] in MUTABLE and (
            not value.args or "default" in ast.unparse(value.func)
        )
    return (isinstance(value, ast.List) and not value.elts) or (isinstance(value, ast.Dict) and not value.keys)


def environment(source: Source) -> Iterator[Finding]:
    if source.path.startswith("proxy/config/"):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.environb", "os.getenv"):
            yield node.lineno, f"{ast.unparse(node)} outside proxy/config"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            for alias in node.names:
                if alias.name in ("environ", "environb", "getenv"):
                    yield node.lineno, f"os.{alias.name} outside proxy/config"


def background_work(source: Source) -> Iterator[Finding]:
    """A TaskGroup's own create_task is fine: the group waits for it."""
    if source.path == "proxy/tasks.py":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and (
            node.attr == "ensure_future" or (node.attr == "create_task" and _is_loop(node.value))
        ):
            yield node.lineno, f"{ast.unparse(node)}: start it by tasks.spawn"
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio":
            for alias in node.names:
                if alias.name in ("create_task", "ensure_future"):
                    yield node.lineno, f"asyncio.{alias.name}: start it by tasks.spawn"


def _is_loop(value: ast.expr) -> bool:
    text = ast.unparse(value)
    return text == "asyncio" or "loop" in text


def swallowed_cancellation(source: Source) -> Iterator[Finding]:
    """`proxy/tasks.py` may: it reaps the tasks that it cancelled itself."""
    if source.path == "proxy/tasks.py":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = "everything" if node.type is None else _catches_cancellation(node.type)
            if caught and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                yield node.lineno, f"handler of {caught} does not raise; to wait for a cancelled task: asyncio.wait"
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "suppress":
            for caught in filter(None, map(_catches_cancellation, node.args)):
                yield node.lineno, f"suppresses {caught}; to wait for a cancelled task: asyncio.wait"


def _catches_cancellation(kind: ast.expr) -> str:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    names = [ast.unparse(each).rpartition(".")[2] for each in kinds]
    return ", ".join(name for name in names if name in ("BaseException", "CancelledError"))


def secret_comparison(source: Source) -> Iterator[Finding]:
    """Comparing with a literal is parsing, not authenticating."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops) and not any(
            isinstance(side, ast.Constant) for side in sides
        ):
            for side in sides:
                name = side.attr if isinstance(side, ast.Attribute) else side.id if isinstance(side, ast.Name) else ""
                if SECRET_NAME.search(name):
                    yield node.lineno, f"compares {name} with ==: use hmac.compare_digest"


def unsafe_loading(source: Source) -> Iterator[Finding]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                if name.partition(".")[0] in UNSAFE_MODULES:
                    yield node.lineno, f"{name} runs what it reads"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            unsafe_yaml = called.rpartition(".")[2] == "YAML" and any(
                isinstance(word.value, ast.Constant) and word.value.value == "unsafe" for word in node.keywords
            )
            if called in UNSAFE_CALLS or unsafe_yaml:
                yield node.lineno, f"{called} runs what it reads"


def suppressions(source: Source) -> Iterator[Finding]:
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type != tokenize.COMMENT:
            continue
        found = list(SUPPRESSION.finditer(token.string))
        if any(match[1] is None for match in found):
            yield token.start[0], f"{token.string}: name the rule"
        elif found and not re.search(r"[a-z]{2}", SUPPRESSION.sub("", token.string), re.IGNORECASE):
            yield token.start[0], f"{token.string}: give the reason on the same line"


RULES: list[Rule] = [
    size,
    module_docstring,
    module_state,
    environment,
    background_work,
    swallowed_cancellation,
    secret_comparison,
    unsafe_loading,
    suppressions,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_source_keeps(rule: Rule) -> None:
    found = [f"{source.path}:{line}: {message}" for source in read_sources() for line, message in rule(source)]

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (size, "x = 1\n" * 501),
        (size, "class A:\n    async def f():\n" + "        x = 1\n" * 50),
        (module_docstring, "x = 1\n"),
        (module_docstring, ""),
        (module_state, "def f():\n    global x\n    x = 1\n"),
        (module_state, "cache = {}\n"),
        (module_state, "seen: list[str] = []\n"),
        (module_state, "queue = collections.deque()\n"),
        (module_state, "counts = defaultdict(int)\n"),
        (environment, "import os\nhome = os.environ['HOME']\n"),
        (environment, "def f():\n    return os.getenv('HOME')\n"),
        (environment, "from os import environ\n"),
        (background_work, "asyncio.create_task(f())\n"),
        (background_work, "asyncio.get_running_loop().create_task(f())\n"),
        (background_work, "asyncio.ensure_future(f())\n"),
        (background_work, "from asyncio import create_task\n"),
        (swallowed_cancellation, "try:\n    f()\nexcept:\n    pass\n"),
        (swallowed_cancellation, "try:\n    f()\nexcept BaseException:\n    log()\n"),
        (swallowed_cancellation, "try:\n    f()\nexcept (OSError, asyncio.CancelledError):\n    log()\n"),
        (swallowed_cancellation, "with contextlib.suppress(asyncio.CancelledError):\n    f()\n"),
        (secret_comparison, "ok = given == self.admin_token\n"),
        (secret_comparison, "ok = api_key != expected\n"),
        (unsafe_loading, "import pickle\n"),
        (unsafe_loading, "from marshal import loads\n"),
        (unsafe_loading, "eval(text)\n"),
        (unsafe_loading, "exec(text)\n"),
        (unsafe_loading, "yaml.load(text)\n"),
        (unsafe_loading, "YAML(typ='unsafe')\n"),
        (suppressions, "x = f()  # noqa\n"),
        (suppressions, "x = f()  # type: ignore\n"),
        (suppressions, "x = f()  # noqa: S104\n"),
        (suppressions, "x = f()  # type: ignore[attr-defined]\n"),
    ],
)
def test_rule_finds(rule: Rule, text: str) -> None:
    found = list(rule(parse("proxy/host/made_up.py", text)))

    assert len(found) == 1


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (size, "proxy/host/a.py", "def f():\n" + "    x = 1\n" * 49 + "x = 1\n" * 450),
        (module_docstring, "proxy/host/a.py", '"""What it is about."""\n'),
        (module_state, "proxy/host/a.py", "NAMES = ['a']\nEMPTY = ()\nONE = set('abc')\ndef f():\n    seen = []\n"),
        (environment, "proxy/config/a.py", "import os\nhome = os.environ['HOME']\n"),
        (environment, "proxy/host/a.py", "environ = f()\nos.path.join('a')\n"),
        (background_work, "proxy/tasks.py", "asyncio.create_task(f())\n"),
        (background_work, "proxy/host/a.py", "async with asyncio.TaskGroup() as group:\n    group.create_task(f())\n"),
        (swallowed_cancellation, "proxy/host/a.py", "try:\n    f()\nexcept BaseException:\n    log()\n    raise\n"),
        (swallowed_cancellation, "proxy/host/a.py", "try:\n    f()\nexcept Exception:\n    log()\n"),
        (swallowed_cancellation, "proxy/host/a.py", "with suppress(OSError):\n    f()\n"),
        (swallowed_cancellation, "proxy/tasks.py", "try:\n    f()\nexcept asyncio.CancelledError:\n    pass\n"),
        (secret_comparison, "proxy/host/a.py", "a = token == ','\nb = max_tokens == limit\nc = token is other\n"),
        (unsafe_loading, "proxy/host/a.py", "re.compile('a')\nself.exec(x)\nYAML(typ='safe').load(text)\n"),
        (suppressions, "proxy/host/a.py", "x = f()  # noqa: S104  # the operator asked for it\n"),
        (suppressions, "proxy/host/a.py", "x = f()  # type: ignore[misc]  # pluggy has no types\n"),
    ],
)
def test_rule_accepts(rule: Rule, path: str, text: str) -> None:
    found = list(rule(parse(path, text)))

    assert found == []
