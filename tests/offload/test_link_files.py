"""Recorded and declared links from files, control messages over a link, and the same link by the kernel's shaping."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.errors import LinkError
from offload.link import (
    Channel,
    EmulatedLink,
    Fixed,
    Gamma,
    GeometricQueue,
    LinkModel,
    Outage,
    Rayleigh,
    Trace,
    read_trace,
)
from offload.link.file import read_link
from offload.link.shaping import shape_of, shaped_link, why_no_shaping
from offload.radio import MEGABIT

TRACE = "time_s,rate_mbps,rtt_ms\n10.0,8,20\n10.5,2,60\n11.0,4,40\n"


def test_a_trace_is_replayed_window_by_window_and_repeats(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TRACE)
    traces = read_trace(tmp_path / "t.csv")
    channel = Channel(LinkModel(rate=traces["rate_bps"], rtt=traces["rtt_s"]))
    for repeat in range(3):
        for start, mbps, rtt_s in ((0, 8, 0.02), (25, 2, 0.06), (50, 4, 0.04)):
            for window in (start, start + 24):
                sample = channel.sample(window + 75 * repeat)
                assert sample.rate_bps == mbps * MEGABIT
                assert sample.rtt_s == pytest.approx(rtt_s)


@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(0.0, 1e8)), min_size=1, max_size=30), st.floats(0.0, 500.0))
def test_a_trace_holds_each_value_until_the_next(rows: list[tuple[float, float]], time_s: float) -> None:
    ends_s = np.cumsum([gap for gap, _ in rows]).tolist()
    trace = Trace((0.0, *ends_s[:-1]), tuple(value for _, value in rows), ends_s[-1])
    within_s = time_s % ends_s[-1]
    expected = next(value for end_s, (_, value) in zip(ends_s, rows, strict=True) if within_s < end_s)
    assert trace.at(np.array([time_s]))[0] == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0 lines"),
        ("time_s,rate_mbps\n", "has 1 lines"),
        ("time_s,speed\n0,1\n", "unknown column 'speed'"),
        ("time_s,rtt_ms\n0,1\n", "a time and a rate are wanted"),
        ("time_s,rate_mbps,rate_bps\n0,1,1\n", "nothing twice"),
        ("time_s,rate_mbps\n0,fast\n", "line 2"),
        ("time_s,rate_mbps\n0,1,2\n", "3 columns instead of 2"),
        ("time_s,rate_mbps\n0,1\n0,2\n", "must ascend"),
        ("time_s,rate_mbps\n0,-1\n", "not negative"),
        ("time_s,rate_mbps\n0,nan\n", "not negative"),
    ],
)
def test_a_damaged_trace_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(LinkError, match=reason):
        read_trace(path)


def test_a_link_file_declares_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "l.toml"
    path.write_text(
        "seed = 4\nloss = 0.01\nrate = { rayleigh_mbps = 20 }\nqueue = { geometric = 0.97 }\n"
        "rtt = { shape = 3.5, scale_ms = 5.5, shift_ms = 10 }\noutages = [{ start_s = 10, duration_s = 5 }]\n"
    )
    model, seed = read_link(path)
    assert seed == 4
    assert model.rate == Rayleigh(20 * MEGABIT)
    assert model.rtt == Gamma(3.5, 0.0055, 0.010)
    assert model.queue == GeometricQueue(0.97)
    assert (model.loss, model.outages) == (0.01, (Outage(10, 5),))
    (tmp_path / "t.csv").write_text(TRACE)
    path.write_text('trace = "t.csv"\nqueue = { ms = 1 }\n')
    model, _ = read_link(path)
    assert isinstance(model.rate, Trace)
    assert model.queue == Fixed(0.001)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rate = 5", r"must be \{ rayleigh_mbps"),
        ("rate = { mbps = 5 }\ncolour = 1", "unknown key 'colour'"),
        ("rate = { mbps = true }", "of numbers"),
        ("rate = { mbps = -1 }", "not negative"),
        ("rate = { mbps = 1 }\nloss = 1.0", "loss = 1.0"),
        ("rate = { mbps = 1 }\nseed = -1", "seed = -1"),
        ("rate = { mbps = 1 }\noutages = 3", "outages = 3"),
        ("loss = 0.1", "no rate"),
        ('rate = { mbps = 1 }\ntrace = "t.csv"', "rate stands in the trace"),
        ("rate = [", "cannot read"),
    ],
)
def test_a_damaged_link_file_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "t.csv").write_text(TRACE)
    path = tmp_path / "l.toml"
    path.write_text(text)
    with pytest.raises(LinkError, match=reason):
        read_link(path)


def test_control_messages_overtake_payloads_and_take_the_round_trip() -> None:
    link = EmulatedLink(LinkModel(rate=Fixed(1 * MEGABIT), rtt=Fixed(0.03), queue=Fixed(0.002)))
    payload = link.send(1e6, 0.0)
    passage = link.pass_control(512.0, 0.01)
    assert passage.arrival_s == pytest.approx(0.01 + 512 / MEGABIT + 0.015)
    assert passage.reply_delay_s == pytest.approx(0.017)
    assert link.send(1e6, 0.02).start_s == payload.sent_s


def test_control_messages_wait_out_an_outage_and_keep_their_order() -> None:
    model = LinkModel(rate=Fixed(1 * MEGABIT), rtt=Gamma(1.0, 0.02), outages=(Outage(0.1, 1.0),))
    link = EmulatedLink(model, seed=2)
    arrivals = [link.pass_control(512.0, 0.01 * number).arrival_s for number in range(60)]
    assert arrivals == sorted(arrivals)
    assert all(time_s >= 1.1 for time_s in arrivals[11:])
    assert link.open_s(0.05) == 0.05
    assert link.open_s(0.5) == pytest.approx(1.1)
    assert EmulatedLink(LinkModel(outages=(Outage(0.0, 1e6),)), horizon_s=5.0).open_s(1.0) == math.inf


SERVER = (
    "import socket\ns = socket.create_server(('10.213.0.2', 5555)); print('up', flush=True)\n"
    "c, _ = s.accept(); n = 0\nwhile d := c.recv(65536): n += len(d)\nc.close(); print(n)"
)
CLIENT = (
    "import socket, time\nc = socket.create_connection(('10.213.0.2', 5555)); t = time.monotonic()\n"
    "c.sendall(bytes(400_000)); c.shutdown(1); c.recv(1); print(time.monotonic() - t)"
)


def printed(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_real_bytes_take_at_least_the_declared_time() -> None:
    model = LinkModel(rate=Fixed(8 * MEGABIT))
    if reason := why_no_shaping(model):
        pytest.skip(reason)
    with (
        shaped_link(model) as ends,
        subprocess.Popen([*ends.edge, sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        sent_s = float(printed([*ends.vehicle, sys.executable, "-c", CLIENT]))
        assert server.stdout.read() == "400000\n"
    link_s = EmulatedLink(model).send(8 * 400_000, 0.0).sent_s
    assert link_s * 0.9 < sent_s


def test_real_packets_take_the_declared_round_trip() -> None:
    model = LinkModel(rate=Fixed(8 * MEGABIT), rtt=Fixed(0.04))
    if reason := why_no_shaping(model):
        pytest.skip(reason)
    script = "import socket, time\nt = time.monotonic()\ntry: socket.create_connection(('10.213.0.2', 5555))\n"
    script += "except ConnectionRefusedError: print(time.monotonic() - t)"
    with shaped_link(model) as ends:
        ended = subprocess.run(
            [*ends.vehicle, sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
    assert float(ended.stdout) > 0.039


def test_a_shape_has_the_means_of_its_link() -> None:
    shape = shape_of(LinkModel(rate=Rayleigh(20 * MEGABIT), rtt=Gamma(3.5, 0.0055, 0.010), loss=0.02))
    assert shape.rate_bps == pytest.approx(20 * MEGABIT * math.sqrt(math.pi / 2), rel=0.03)
    assert shape.delay_s == pytest.approx((3.5 * 0.0055 + 0.010) / 2, rel=0.03)
    assert shape.jitter_s == pytest.approx(math.sqrt(3.5) * 0.0055 / 2, rel=0.06)
    assert shape.needs_netem
