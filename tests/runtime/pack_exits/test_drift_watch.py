"""The drift watch: which replies it looks at, and the flag of a daemon whose inputs change."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import carla_bridge
import headway
from devices.package import Package, load_package
from runtime.execute.request import Ending, Reply, Request, Status
from runtime.observe.watch import DriftWatch
from runtime.pack.exits import ExitSettings, fit_exits, write_exits
from tests.processes import end, end_owner, start, wait_for
from tests.runtime.pack_exits.conftest import TrainedDigits

DRIVING = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
ONE = {"image": np.zeros((1, 64), np.float32)}
P99_S = 0.010


@pytest.fixture(scope="module")
def package(digits: TrainedDigits, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The digits with an exit that most images leave by."""
    images = {"image": digits.data.images[600:1500]}
    fitted = fit_exits(digits.logits, images, ExitSettings(count=2, max_disagreement=0.01))
    return write_exits(tmp_path_factory.mktemp("watched") / "digits", digits.logits, fitted)


def asked(**changes: Any) -> Request:
    return dataclasses.replace(Request(id=1, model="digits", inputs=ONE), **changes)


def replied(**changes: Any) -> Reply:
    reply = Reply(id=1, status=Status.OK, model="digits", exit_id="exit1", ending=Ending.CONFIDENT, run_s=0.002)
    return dataclasses.replace(reply, **changes)


def looked_at(package: Package, request: Request, reply: Reply) -> int:
    watch = DriftWatch([package], lambda _: P99_S)
    watch.take(request, reply)
    return int(watch.status()["digits"]["samples"])


@pytest.mark.parametrize(
    "reply",
    [
        replied(),
        replied(exit_id="final", ending=Ending.COMPLETE),
        replied(time_left_s=0.0131),
    ],
    ids=["confident", "complete", "room enough"],
)
def test_walks_that_end_of_themselves_are_looked_at(package: Package, reply: Reply) -> None:
    assert looked_at(package, asked(), reply) == 1


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (asked(), replied(ending=Ending.DEADLINE)),
        (asked(), replied(ending=Ending.FAILURE)),
        (asked(), replied(status=Status.CANCELLED, exit_id=None, ending=None)),
        (asked(), replied(time_left_s=0.0129)),
        (asked(), replied(model="another")),
        (asked(least_exit="exit1"), replied()),
        (asked(inputs={"image": np.zeros((2, 64), np.float32)}), replied()),
    ],
    ids=["deadline", "failure", "cancelled", "little room", "another model", "least exit", "batch"],
)
def test_what_says_nothing_about_the_input_is_not(package: Package, request_: Request, reply: Reply) -> None:
    assert looked_at(package, request_, reply) == 0


def test_one_in_every_so_many_is_looked_at(package: Package) -> None:
    watch = DriftWatch([package], lambda _: P99_S, every=5)
    for _ in range(23):
        watch.take(asked(), replied())
    assert watch.status()["digits"]["samples"] == 4
    with pytest.raises(ValueError, match="every = 0: must be at least 1"):
        DriftWatch([package], lambda _: P99_S, every=0)


def test_what_cannot_be_watched_says_why(package: Package, caplog: pytest.LogCaptureFixture) -> None:
    first, *rest = package.exits
    moved = dataclasses.replace(package, exits=(dataclasses.replace(first, threshold=0.125), *rest))
    watch = DriftWatch([moved, load_package(DRIVING)], lambda _: P99_S)
    assert "calibrated with" in watch.status()["digits"]["unwatched"]
    assert "no calibration record of exit shares" in watch.status()["driving"]["unwatched"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    watch.take(asked(), replied())


def test_a_flag_is_logged_once(package: Package, caplog: pytest.LogCaptureFixture) -> None:
    watch = DriftWatch([package], lambda _: P99_S)
    for _ in range(200):
        watch.take(asked(), replied(exit_id="final", ending=Ending.COMPLETE))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"drift of digits: {watch.status()['digits']['flag']}"
    assert "0.0% of the inputs leave by exit 'exit1', below its band" in record.getMessage()


def test_a_model_that_is_loaded_anew_is_watched_anew(package: Package) -> None:
    watch = DriftWatch([package], lambda _: P99_S)
    for _ in range(200):
        watch.take(asked(), replied(exit_id="final", ending=Ending.COMPLETE))
    assert watch.status()["digits"]["flag"] is not None
    assert watch.begin(package) == {"model": "digits", "flag": None}
    assert watch.begin(package) is None
    assert (watch.status()["digits"]["flag"], watch.status()["digits"]["samples"]) == (None, 0)


def ask(client: headway.Client, images: Any) -> None:
    for image in images:
        client.infer("digits", {"image": image[None]})


def test_a_daemon_raises_the_flag_when_its_inputs_change(
    package: Package, digits: TrainedDigits, tmp_path: Path
) -> None:
    unseen = digits.data.images[1500:]
    socket = tmp_path / "d.sock"
    process = start("serve", "--socket", str(socket), "--package", str(DRIVING), "--package", str(package.folder))
    try:
        wait_for(lambda: _ready(socket))
        with headway.Client(socket, timeout_s=10.0) as client:
            ask(client, unseen)
            calm = client.status()["drift"]["digits"]
            assert (calm["flag"], calm["samples"]) == (None, len(unseen))
            assert calm["shares"]["exit1"] > 0.5
            events = client.events("drift", timeout_s=10.0)
            ask(client, 0.5 + 0.2 * (unseen[:150] - 0.5))  # grey and pale
            raised = client.status()["drift"]["digits"]
            assert "below its band" in raised["flag"]
            assert next(events).data == {"model": "digits", "flag": raised["flag"]}
            for _ in range(3):
                ask(client, unseen)
            assert client.status()["drift"]["digits"]["flag"] is None
            assert next(events).data == {"model": "digits", "flag": None}
    finally:
        end(process)
        end_owner(tmp_path / "headway-guard.sock")


def _ready(socket: Path) -> bool:
    try:
        with headway.Client(socket, timeout_s=1.0) as client:
            return bool(client.status()["ready"])
    except headway.HeadwayError:
        return False
