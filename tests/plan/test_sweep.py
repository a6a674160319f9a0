"""The sweep over split points: what is measured adds up, and what is marked is not bettered."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import carla_bridge
from runtime.plan.sweep import Cut, mark
from tests.processes import run

PACKAGE = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"


def cut(p50_ms: float, throughput_hz: float, answered: float = 1.0) -> Cut:
    return Cut("x", 1, p50_ms, p50_ms, 0.0, 0.0, throughput_hz, 0.0, answered)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=8))
def test_marked_cuts_are_those_that_none_betters(points: list[tuple[int, int]]) -> None:
    marked = mark([cut(float(latency), float(rate)) for latency, rate in points])
    for item, (latency, rate) in zip(marked, points, strict=True):
        bettered = any(a <= latency and b >= rate and (a, b) != (latency, rate) for a, b in points)
        assert item.best is not bettered
    assert not mark([cut(1.0, 1.0, answered=0.0)])[0].best


@pytest.mark.timeout(120)
def test_every_cut_is_measured_over_the_declared_link(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    link, picture = tmp_path / "l.toml", tmp_path / "s.png"
    link.write_text("rate = { mbps = 10 }\nrtt = { ms = 4 }\n")
    ended = run(
        "sweep", str(PACKAGE), "--link", str(link), "--runs", "2", "--json", "--plot", str(picture), timeout_s=100.0
    )
    assert ended.returncode == 0, ended.stderr
    cuts = json.loads(ended.stdout)["cuts"]
    assert cuts[0]["last_here"] == ""
    assert cuts[0]["sent_bytes"] == 160 * 80 * 3
    for item in cuts[:-1]:
        assert item["answered"] == 1.0
        assert item["p50_ms"] >= 1e3 * 8 * item["sent_bytes"] / (10 * 2**20) + 4.0
        assert item["radio_mj"] > 0.0
    assert (cuts[-1]["sent_bytes"], cuts[-1]["radio_mj"]) == (0, 0.0)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_swept_is_told(tmp_path: Path) -> None:
    ended = run("sweep", str(PACKAGE), "--runs", "0")
    assert ended.returncode == 2
    none, wrong = tmp_path / "none.toml", tmp_path / "wrong.toml"
    wrong.write_text("rate = { mbps = -1 }\n")
    for link, why in ((none, f"cannot read the link {none}: No such file or directory"), (wrong, "wrong.toml: ")):
        ended = run("sweep", str(PACKAGE), "--link", str(link))
        assert (ended.returncode, why in ended.stderr) == (78, True), ended.stderr
