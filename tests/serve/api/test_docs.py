"""docs/api.md names every message and field that the local sockets take and give, and nothing else."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import headway
from runtime.execute.request import Status
from runtime.serve import guard_messages
from runtime.serve.api import messages
from runtime.serve.events import Topic

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "api.md").read_text()
DAEMON, _, GUARD = PAGE.partition("\n## Guard\n")


def tagged(module: Any) -> dict[str, type[msgspec.Struct]]:
    """Return the messages of a module by their kinds."""
    structs = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    return {str(each.__struct_config__.tag): each for each in structs if str(each.__struct_config__.tag).endswith("/1")}


def rows(page: str) -> dict[str, str]:
    """Return the rows of a page's tables by the name in their first cell."""
    return {found[1]: found[2] for found in re.finditer(r"(?m)^\| `([^`]+)` \|(.*)$", page)}


MESSAGES = [
    *(("daemon", kind, struct) for kind, struct in tagged(messages).items()),
    *(("guard", kind, struct) for kind, struct in tagged(guard_messages).items()),
]


@pytest.mark.parametrize(("side", "kind", "struct"), MESSAGES, ids=[f"{side} {kind}" for side, kind, _ in MESSAGES])
def test_every_field_stands_in_the_row_of_its_message(side: str, kind: str, struct: type[msgspec.Struct]) -> None:
    row = rows(GUARD if side == "guard" else DAEMON).get(kind)
    assert row is not None, f"{kind} has no row"
    shared = rows(DAEMON)["step/1"] if kind in ("deadline/1", "filter/1") else ""  # "state and obstacles as in"
    missing = [name for name in struct.__struct_fields__ if f"`{name}`" not in row + shared]
    assert missing == []


@pytest.mark.parametrize(("page", "module"), [(DAEMON, messages), (GUARD, guard_messages)])
def test_no_message_is_described_that_there_is_not(page: str, module: Any) -> None:
    described = {name for name in rows(page) if name.endswith("/1")}
    assert described == set(tagged(module))


def test_every_topic_is_described_and_told_by_the_client() -> None:
    told, row = headway.Event.__doc__ or "", rows(DAEMON)["subscribe/1"]
    for topic in map(str, Topic):
        assert topic in rows(DAEMON)
        assert re.search(rf"\b{topic}\b", told), topic
        assert re.search(rf"\b{topic}\b", row), topic


def test_every_code_is_described() -> None:
    sources = "".join(path.read_text() for path in Path(messages.__file__).parent.glob("*.py"))
    codes = set(re.findall(r'code="([A-Z_]+)"', sources)) | {
        str(status) for status in Status if status is not Status.OK
    }
    assert len(codes) > 5
    assert codes <= set(rows(DAEMON))
