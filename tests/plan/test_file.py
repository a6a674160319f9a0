"""Problem files: what is written is read again, and every contradiction is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.plan.errors import PlanError
from runtime.plan.file import read_problem, write_problem
from runtime.plan.settings.random_graphs import layered

EXAMPLES = Path(__file__).parents[2] / "examples" / "plan"
GOOD = {
    "name": "p",
    "devices": [{"name": "a", "levels": ["low", "high"]}, {"name": "b"}],
    "links": [{"from": "a", "to": "b", "latency_s": 0.001}],
    "models": [
        {
            "name": "m",
            "segments": [
                {"id": "x", "costs": {"a": [{"p50_s": 0.002}, {"p50_s": 0.001}], "b": None}},
                {"id": "y", "costs": {"a": None, "b": {"p50_s": 0.001, "p99_s": 0.002}}},
            ],
            "edges": [{"from": "x", "to": ["y"], "bytes": 10}],
            "exits": [{"id": "e", "segment": "y", "share": 1.0, "accuracy": 0.9}],
        }
    ],
}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    given = layered(6, 3, 1)
    write_problem(given, tmp_path / "p.json")
    assert read_problem(tmp_path / "p.json") == given


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_the_examples_are_sound_and_name_their_source(path: Path) -> None:
    assert read_problem(path).source


def put(table: Any, keys: tuple[Any, ...], value: Any) -> None:
    for key in keys[:-1]:
        table = table[key]
    table[keys[-1]] = value


SEGMENT = ("models", 0, "segments", 0)
COST = ("models", 0, "segments", 1, "costs", "b")
WRONG: list[tuple[tuple[Any, ...], Any, str]] = [
    (("devices", 1, "name"), "a", "device 'a' is given 2 times"),
    (("links", 0, "to"), "c", "there is no device 'c'"),
    (("format",), 2, "format is 2: this version reads format 1"),
    ((*SEGMENT, "costs"), {"a": [{"p50_s": 1.0}, {"p50_s": 1.0}]}, "no cost on device 'b': give it, or null"),
    ((*SEGMENT, "costs", "a"), {"p50_s": 1.0}, "has 1 costs on 'a': one for each level"),
    ((*SEGMENT, "costs"), {"a": None, "b": None}, "can run on no device"),
    ((*SEGMENT, "costs", "c"), None, "costs name device 'c'"),
    ((*COST, "p99_s"), 0.0005, "p99_s 0.0005 is below p50_s 0.001: are the units the same"),
    ((*COST, "p50_ms"), 1.0, "unknown field `p50_ms`"),
    ((*COST, "p50_s"), -1.0, ">= 0.0"),
    (("models", 0, "edges", 0, "to"), ["z"], "names segment 'z'"),
    (("models", 0, "edges", 0, "to"), ["y", "y"], "'y' is given 2 times"),
    (("models", 0, "edges", 0, "to"), ["x"], "wait for each other"),
    (("models", 0, "exits", 0, "share"), 0.5, "sum to 0.5: must be 1"),
    (("models", 0, "exits", 0, "segment"), "q", "names segment 'q'"),
    (("contention",), [{"devices": ["a", "b"], "factor": 0.5}], ">= 1.0"),
    (("contention",), [{"devices": ["a", "a"], "factor": 1.5}], "names a device twice"),
    (("memories",), [{"name": "r", "bytes": 1, "devices": ["q"]}], "there is no device 'q'"),
]


@pytest.mark.parametrize(("keys", "value", "why"), WRONG)
def test_what_is_wrong_is_told(tmp_path: Path, keys: tuple[Any, ...], value: Any, why: str) -> None:
    table = json.loads(json.dumps(GOOD))
    path = tmp_path / "p.json"
    path.write_text(json.dumps(table))
    read_problem(path)
    put(table, keys, value)
    path.write_text(json.dumps(table))
    with pytest.raises(PlanError) as caught:
        read_problem(path)
    assert why in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        read_problem(tmp_path / "none.json")
    good = json.dumps(GOOD).encode()
    for number, damaged in enumerate((good[:-5], b"\xff" + good, b"", b"[" * 9999)):
        path = tmp_path / f"{number}.json"
        path.write_bytes(damaged)
        with pytest.raises(PlanError, match="problem"):
            read_problem(path)
