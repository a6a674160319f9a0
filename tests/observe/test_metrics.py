"""The metrics of a daemon and its guard, scraped over HTTP and read by Prometheus's own parser."""

import contextlib
import re
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import headway
from runtime.observe.metrics.guard import ask_guard
from runtime.serve.histogram import Histogram
from tests.observe.drives import Driven, driven
from tests.processes import PATIENCE_S, end, run, start, wait_for

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
pytestmark = pytest.mark.timeout(120)  # several processes start for them


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    with driven(tmp_path_factory.mktemp("m"), "--metrics", "127.0.0.1:0") as started:
        wait_for(lambda: driven_on(started), 60.0)
        with started.ask() as client:
            for shade in (0, 100, 200):
                wait_for(partial(answered, client, shade))
            with contextlib.suppress(headway.RequestError):
                client.infer("driving", {"frame": np.zeros((1, 80, 160, 3), np.uint8)}, deadline_s=1e-5)
        yield started


def driven_on(running: Driven) -> bool:
    """Drive, and return whether enough came of it so far: that is a matter of how busy the machine is."""
    running.drive(0.6)
    guard = ask_guard(running.guard, round(1e3 * PATIENCE_S))
    with running.ask() as client:
        status = client.status()
    enough = sum(status["windows"].values()) >= 10 and status["energy_j"].get("local", 0.0) > 0.0
    return enough and guard is not None and guard.ticks > 10


def answered(client: headway.Client, shade: int) -> bool:
    """Ask, and return whether an answer came: just after a drive the guard's deadline may be too near for one."""
    with contextlib.suppress(headway.RequestError):
        client.infer("driving", {"frame": np.full((1, 80, 160, 3), shade, np.uint8)}, deadline_s=10.0)
        return True
    return False


def scrape_both(address: str) -> Samples:
    """Scrape until the guard answered in the third of a second that it is given each time."""
    found: Samples = {}

    def up() -> bool:
        found.clear()
        found.update(scrape(address))
        return value(found, "headway_guard_up") == 1.0

    wait_for(up)
    return found


def scrape(address: str) -> Samples:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE_S) as response:
        text = response.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return sum(
        found for (known, given), found in samples.items() if known == name and labels.items() <= dict(given).items()
    )


def test_requests_exits_placement_and_slack_are_counted(running: Driven) -> None:
    with running.ask() as client:
        samples = scrape(client.status()["metrics"])
    assert value(samples, "headway_requests_total", model="driving", status="OK") >= 3
    refused = value(samples, "headway_replies_total", status="RESOURCE_EXHAUSTED")
    assert refused + value(samples, "headway_replies_total", status="DEADLINE_EXCEEDED") >= 1
    answers = value(samples, "headway_answers_total", model="driving")
    assert answers == value(samples, "headway_requests_total", model="driving", status="OK")
    assert value(samples, "headway_request_seconds_count", model="driving") == answers
    assert value(samples, "headway_slack_seconds_bucket", le="+Inf") >= value(
        samples, "headway_slack_seconds_bucket", le="0.01"
    )
    assert value(samples, "headway_segments_total", device="cpu") >= answers
    assert value(samples, "headway_windows_total") >= 10
    assert value(samples, "headway_energy_joules_total", place="local") > 0.0
    assert value(samples, "headway_ready") == 1.0


def test_the_guard_is_asked_at_each_scrape(running: Driven) -> None:
    with running.ask() as client:
        samples = scrape_both(client.status()["metrics"])
    ticks = value(samples, "headway_guard_decisions_total")
    assert ticks == value(samples, "headway_guard_reasons_total")
    assert ticks >= value(samples, "headway_guard_tick_seconds_count") > 10
    assert ticks == value(samples, "headway_guard_deadline_seconds_count")
    certificates = [dict(labels)["certificate"] for name, labels in samples if name == "headway_guard_info"]
    assert [len(found) for found in certificates] == [64]
    assert ("headway_guard_late_controls_total", frozenset()) in samples


def test_a_guard_has_metrics_without_a_daemon(running: Driven) -> None:
    process = start("metrics", "127.0.0.1:0", "--guard-socket", str(running.guard))
    try:
        assert process.stdout is not None
        address = re.fullmatch(r"http://(.*)/metrics\n", process.stdout.readline())
        assert address is not None
        samples = scrape_both(address[1])
        assert not any(name == "headway_ready" for name, _ in samples)
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        end(process)


def test_no_guard_is_told(tmp_path: Path) -> None:
    assert ask_guard(tmp_path / "none.sock", wait_ms=50) is None


@pytest.mark.parametrize(("address", "message"), [("0.0.0.0:9100", "bind to 127.0.0.1"), ("9100", "HOST:PORT")])
def test_a_wrong_address_is_refused(address: str, message: str) -> None:
    ended = run("metrics", address)
    assert ended.returncode == 78
    assert message in ended.stderr


@given(st.lists(st.floats()), st.sets(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
def test_a_histogram_counts_what_lies_below_each_end(values: list[float], ends: set[float]) -> None:
    rising = sorted(ends)
    histogram = Histogram(rising)
    for each in values:
        histogram.add(each)
    counts = list(histogram.counts().values())
    ordinary = [each for each in values if each == each]
    assert counts[-1] == len(values)
    if len(ordinary) == len(values):
        assert counts[:-1] == [sum(each <= end for each in values) for end in rising]
