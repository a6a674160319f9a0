"""Everything that Headway logs has a code, and every code stands in the documentation."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("runtime", "offload")
LEVELS = frozenset(("info", "warning", "error", "exception", "critical"))
LOGGERS = frozenset(("_log", "_LOG", "logging"))
Site = tuple[str, ast.Call, ast.AST]


def calls(levels: frozenset[str], tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls of loggers at one of these levels."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in levels:
            logger = node.func.value
            name = logger.attr if isinstance(logger, ast.Attribute) else getattr(logger, "id", None)
            if name in LOGGERS:
                yield node


def around(call: ast.Call, tree: ast.AST) -> ast.AST:
    """Return the innermost function around a call."""
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.lineno <= call.lineno <= (node.end_lineno or 0)
    ]
    return max(functions, key=lambda function: function.lineno, default=tree)


def sites(levels: frozenset[str]) -> Iterator[Site]:
    """Yield where in the sources each call stands, the call, and the function around it."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for call in calls(levels, tree):
                yield f"{path.relative_to(ROOT)}:{call.lineno}", call, around(call, tree)


def codes_of(call: ast.Call, tree: ast.AST) -> list[ast.expr]:
    """Return what the call's `extra` has under "code": one value, or one of each assignment to the name it is given."""
    extra = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
    if isinstance(extra, ast.Name):
        name = extra.id
        written: list[ast.AST] = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
        ]
    else:
        written = [] if extra is None else [extra]
    return [
        value
        for node in written
        for table in ast.walk(node)
        if isinstance(table, ast.Dict)
        for key, value in zip(table.keys, table.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "code"
    ]


def documented() -> set[str]:
    """Return the codes of the table under "Logs"."""
    section = (ROOT / "docs" / "observability.md").read_text().split("\n## Logs\n")[1].split("\n## ")[0]
    return {code for line in section.splitlines() for code in re.findall(r"`(\w+)`", line.split(" | ")[0])}


def test_what_is_logged_has_a_code() -> None:
    found = list(sites(LEVELS))
    assert len(found) > 40
    assert [where for where, call, tree in found if not codes_of(call, tree)] == []


def test_each_code_is_documented() -> None:
    told = {
        (code.value, where)
        for where, call, tree in sites(LEVELS)
        for code in codes_of(call, tree)
        if isinstance(code, ast.Constant)
    }
    known = documented()
    assert sorted((code, where) for code, where in told if code not in known) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("_log.error('gone')", 0),
        ("_log.error('gone', extra={'model': 'm'})", 0),
        ("_log.error('gone', extra={'code': 'gone'})", 1),
        ("told = {'code': 'gone'}\nself._log.error('gone', extra=told)", 1),
        ("_log.error('gone', extra={'code': 'gone'} | more)", 1),
    ],
)
def test_a_code_is_found_where_it_stands(source: str, found: int) -> None:
    tree = ast.parse(source)
    (call,) = calls(LEVELS, tree)
    assert len(codes_of(call, tree)) == found
