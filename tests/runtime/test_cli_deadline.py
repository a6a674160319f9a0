"""`headway deadline`: JSON Lines in, JSON Lines out."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from runtime.cli.deadline import deadline
from shield.deadline import Method, tolerable_deadline
from shield.errors import VehicleFileError
from shield.state import Disc, State
from shield.vehicle import load_vehicle

APPLICATION = typer.Typer()
APPLICATION.command()(deadline)


def ask(lines: str | bytes, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    result = CliRunner().invoke(APPLICATION, list(arguments), input=lines)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("method", list(Method))
def test_a_polar_line_and_the_same_in_cartesian(method: Method) -> None:
    r, xi, turn = 14.0, 3.1, 0.7
    lines = [
        {"r": r, "xi": xi, "beta": 0.05},
        {
            "x": 2.0 + r * math.cos(xi + turn),
            "y": 3.0 + r * math.sin(xi + turn),
            "heading": turn,
            "beta": 0.05,
            "obstacles": [{"x": 2.0, "y": 3.0, "radius": 4.0}],
        },
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    code, (polar, cartesian) = ask(text, "--method", method, "--vehicle", "config2")
    assert code == 0
    assert list(polar) == ["deadline_s", "limited_by", "manoeuvre"]
    expected = tolerable_deadline(
        method,
        load_vehicle("config2"),
        State(r * math.cos(xi), r * math.sin(xi), 0.0, 0.05),
        [Disc(0.0, 0.0, 4.0)],
    )
    assert polar == {
        "deadline_s": expected.deadline_s,
        "limited_by": expected.limited_by,
        "manoeuvre": expected.manoeuvre,
    }
    assert cartesian["deadline_s"] == pytest.approx(polar["deadline_s"], abs=1e-6)
    assert 0.0 < polar["deadline_s"] < 10.0
    assert polar["limited_by"] == "obstacle:0"


def test_speed_and_moving_obstacles_reach_the_shield() -> None:
    obstacle = {"x": 40.0, "y": 0.0, "radius": 1.0}
    line: dict[str, Any] = {"x": 0.0, "y": 0.0, "heading": 0.0, "beta": 0.0, "obstacles": [obstacle]}
    moving = {**line, "obstacles": [{**obstacle, "speed_max": 2.0}]}
    text = "\n".join(json.dumps(item) for item in (line, {**line, "speed": 0.0}, {**line, "speed": None}, moving))
    code, (unknown, slow, none, moved) = ask(text, "--vehicle", "demo")
    assert code == 0
    assert slow["deadline_s"] > unknown["deadline_s"] == none["deadline_s"] > moved["deadline_s"]


def test_the_cap() -> None:
    line = json.dumps({"x": 0, "y": 0, "heading": 0, "beta": 0, "obstacles": []})
    for method in Method:
        _, (answer,) = ask(line, "--cap", "2.5", "--method", method)
        assert answer["deadline_s"] == 2.5
        assert answer["limited_by"] == "cap"


GOOD = '{"r": 12.0, "xi": 0.0, "beta": 0.0}'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "not a JSON object"),
        ("{", "not a JSON object"),
        ("[1, 2]", "not a JSON object but list"),
        ("[" * 100_000, "not a JSON object"),
        ('{"r": 12.0, "xi": 0.0}', "lacks beta"),
        ('{"r": 12.0, "xi": 0.0, "beta": 0.0, "colour": 1}', "unknown keys colour"),
        ('{"r": 12.0, "xi": 0.0, "beta": 0.0, "obstacles": []}', "unknown keys obstacles"),
        ('{"r": 0.0, "xi": 0.0, "beta": 0.0}', "r = 0.0: must be above zero"),
        ('{"r": NaN, "xi": 0.0, "beta": 0.0}', "r = nan: must be a finite number"),
        ('{"r": 1e999, "xi": 0.0, "beta": 0.0}', "r = inf"),
        ('{"r": 1' + "0" * 400 + ', "xi": 0.0, "beta": 0.0}', "must be a finite number"),
        ('{"r": true, "xi": 0.0, "beta": 0.0}', "r = True"),
        ('{"r": "12", "xi": 0.0, "beta": 0.0}', "r = '12'"),
        ('{"r": 12.0, "xi": 0.0, "beta": 1.5}', "full lock"),
        ('{"r": 12.0, "xi": 0.0, "beta": 0.0, "speed": -1.0}', "speed"),
        ('{"x": 0, "y": 0, "heading": 0, "beta": 0}', "lacks obstacles"),
        ('{"x": 0, "y": 0, "heading": 0, "beta": 0, "obstacles": {}}', "must be a list"),
        ('{"x": 0, "y": 0, "heading": 0, "beta": 0, "obstacles": [3]}', "obstacle 0 = 3"),
        ('{"x": 0, "y": 0, "heading": 0, "beta": 0, "obstacles": [{"x": 1, "y": 2}]}', "obstacle 0 lacks radius"),
        ('{"x": 0, "y": 0, "heading": 0, "beta": 0, "obstacles": [{"x": 9, "y": 9, "radius": -1}]}', "radius"),
    ],
)
def test_a_bad_line_gives_an_error_in_its_place(line: str, says: str) -> None:
    code, answers = ask(f"{GOOD}\n{line}\n{GOOD}\n")
    assert code == 1
    assert len(answers) == 3
    assert list(answers[1]) == ["error"]
    assert says in answers[1]["error"]
    assert answers[0] == answers[2]
    assert "deadline_s" in answers[0]


def test_bytes_that_are_no_text() -> None:
    code, answers = ask(b"\xff\xfe\n" + GOOD.encode())
    assert code == 1
    assert "error" in answers[0]
    assert "deadline_s" in answers[1]


def test_no_lines_no_answers() -> None:
    assert ask("") == (0, [])


def test_states_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "states.jsonl"
    path.write_text(GOOD + "\n" + GOOD)
    code, answers = ask("", str(path), "--json")
    assert code == 0
    assert len(answers) == 2


def test_wrong_usage(tmp_path: Path) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text("l_r_m = 1.6\nbeta_max_rad = 0.5\nv_max_mps = 12.0\n")
    for arguments in (
        ("--cap", "0"),
        ("--cap", "nan"),
        ("--method", "guess"),
        ("--method", "barrier", "--vehicle", str(bare)),
        (str(tmp_path / "absent"),),
    ):
        assert CliRunner().invoke(APPLICATION, list(arguments), input=GOOD).exit_code == 2
    _, (answer,) = ask(GOOD, "--vehicle", str(bare))
    assert "needs a [barrier]" in answer["error"]
    with pytest.raises(VehicleFileError):
        ask(GOOD, "--vehicle", "nobody")


def test_the_polar_disc_holds_the_vehicle_too() -> None:
    """Of r_bar = 4 m the passenger car itself takes 2.65 m."""
    car = load_vehicle("passenger_car")
    _, (answer,) = ask('{"r": 60.0, "xi": 3.1, "beta": 0.0}', "--vehicle", "passenger_car")
    state = State(60.0 * math.cos(3.1), 60.0 * math.sin(3.1), 0.0)
    expected = tolerable_deadline(Method.BACKUP, car, state, [Disc(0.0, 0.0, 4.0 - 2.65)])
    assert answer["deadline_s"] == expected.deadline_s
