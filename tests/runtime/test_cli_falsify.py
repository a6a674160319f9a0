"""`headway falsify`: what it prints, and its exit code."""

import json
from collections.abc import Sequence

import pytest
import typer
from typer.testing import CliRunner

from runtime.cli.falsify import falsify
from shield.deadline import Deadline, Method, tolerable_deadline
from shield.falsify import falsify_deadlines
from shield.state import Disc, State
from shield.vehicle import Vehicle

APPLICATION = typer.Typer()
APPLICATION.command()(falsify)


def test_it_says_what_it_ran() -> None:
    arguments = ["--vehicle", "config1", "--states", "200000", "--drives", "1", "--seed", "3", "--json"]
    result = CliRunner().invoke(APPLICATION, arguments)
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["vehicle"] == "config1"
    assert answer["deadlines"]["states"] >= 200_000
    assert answer["deadlines"]["counterexamples"] == []
    assert answer["guard"]["drives"] == 1
    assert answer["guard"]["ticks"] > 100
    assert answer["guard"]["broken_seeds"] == []
    assert answer["broken"] is False


def test_lines_for_people() -> None:
    result = CliRunner().invoke(APPLICATION, ["--vehicle", "config1", "--states", "1", "--drives", "0"])
    assert result.exit_code == 0
    assert "nothing broken" in result.stdout
    assert "config1" in result.stdout


def test_a_broken_deadline_is_printed_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float) -> Deadline:
        return tolerable_deadline(Method.BACKUP, vehicle, state, (), cap_s)

    assert falsify_deadlines.__kwdefaults__ is not None
    monkeypatch.setitem(falsify_deadlines.__kwdefaults__, "ask", blind)
    result = CliRunner().invoke(APPLICATION, ["--vehicle", "config1", "--states", "1", "--drives", "0"])
    assert result.exit_code == 1
    assert "BROKEN" in result.stdout
    found = CliRunner().invoke(APPLICATION, ["--vehicle", "config1", "--states", "1", "--drives", "0", "--json"])
    assert found.exit_code == 1
    worst = json.loads(found.stdout)["deadlines"]["counterexamples"][0]
    assert worst["depth_m"] > 0.0
    assert worst["situation"]["obstacles"]


def test_nothing_to_attack_is_a_usage_error() -> None:
    result = CliRunner().invoke(APPLICATION, ["--vehicle", "config1", "--states", "0", "--drives", "0"])
    assert result.exit_code == 2
    assert "leave nothing to attack" in " ".join(result.stderr.replace("│", " ").split())
    assert "nothing broken" not in result.stdout


def hopeless(vehicle: Vehicle, _state: State, _obstacles: Sequence[Disc], cap_s: float) -> Deadline:
    """Answer zero, whatever is asked."""
    return tolerable_deadline(Method.BACKUP, vehicle, State(0.0, 0.0, 0.0, 0.0), [Disc(0.0, 0.0, 1.0)], cap_s)


def test_where_no_deadline_was_above_zero_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert falsify_deadlines.__kwdefaults__ is not None
    monkeypatch.setitem(falsify_deadlines.__kwdefaults__, "ask", hopeless)
    result = CliRunner().invoke(APPLICATION, ["--vehicle", "config1", "--states", "1", "--drives", "0"])
    assert result.exit_code == 1
    assert "NOTHING ATTACKED: none of 6,464 situations has a deadline above zero" in result.stdout
    assert "nothing broken" not in result.stdout
    found = CliRunner().invoke(APPLICATION, ["--vehicle", "config1", "--states", "1", "--drives", "0", "--json"])
    assert (json.loads(found.stdout)["attacked"], json.loads(found.stdout)["broken"]) == (False, False)
    driven = CliRunner().invoke(APPLICATION, ["--vehicle", "config1", "--states", "1", "--drives", "1"])
    assert driven.exit_code == 0
    assert "nothing broken in the drives; no deadline was attacked: none of 6,464 situations" in driven.stdout


def test_an_unknown_vehicle_is_named() -> None:
    result = CliRunner().invoke(APPLICATION, ["--vehicle", "nothing"])
    assert result.exit_code != 0
    assert "nothing" in str(result.exception)
