"""A real drive is recorded and repeated; what was changed is found; what a killed recorder leaves is read."""

import contextlib
import copy
import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.opcode import Opcode
from mcap.stream_reader import MAGIC_SIZE

import headway
from runtime.errors import ConfigurationError, UnavailableError
from runtime.observe.recorder.channels import CHANNELS, DECISION, EVENT, POSE, RULES, SCENE, TICK
from runtime.observe.recorder.plain import encode_plain
from runtime.observe.recorder.ring import Ring, RingSettings, files_of
from runtime.observe.replay.log import FlightLog, LogError
from runtime.observe.replay.replay import replay
from tests.observe.drives import Driven, driven
from tests.processes import end, run, start, wait_for

pytestmark = pytest.mark.timeout(180)  # a daemon, a guard, two recorders and a drive start for them
SHADES = (0, 60, 120, 255)


def recorded(folder: Path, topic: str) -> int:
    with contextlib.suppress(LogError):
        return sum(entry.topic == topic for entry in FlightLog([folder]))
    return 0


def lived_through(running: Driven) -> bool:
    """Drive, ask and be refused; how much of it comes about is a matter of how busy the machine is."""
    running.drive(1.5)
    with running.ask() as client:
        for shade in SHADES:
            frame = np.full((1, 80, 160, 3), shade, np.uint8)
            with contextlib.suppress(headway.RequestError):
                client.infer("driving", {"frame": frame}, deadline_s=0.5)
        with contextlib.suppress(headway.RequestError):
            client.infer("driving", {"frame": frame}, deadline_s=0.0003)
    return True


def holds_what_is_changed(log: Path) -> bool:
    """Return whether a log holds a message for each change that the tests below make."""
    with contextlib.suppress(LogError):
        entries = list(FlightLog([log]))
        return all(
            any(change(copy.deepcopy(entry.data)) for entry in entries if entry.topic == topic)
            for topic, change, _ in CHANGES
        )
    return False


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The log of a drive, whole, and the same drive's by a recorder that was killed."""
    folder = tmp_path_factory.mktemp("o")
    whole, cut = folder / "log", folder / "cut"
    with driven(folder, "--record", str(whole)) as running:
        second = start("record", str(cut), "--socket", str(running.socket))
        try:
            wait_for(lambda: bool(files_of(whole)) and bool(files_of(cut)), 60.0)
            wait_for(lambda: lived_through(running) and holds_what_is_changed(whole), 90.0)
            wait_for(lambda: recorded(cut, TICK.topic) > 20, 60.0)
            os.kill(second.pid, signal.SIGKILL)
        finally:
            end(second)
    return whole, cut


def rewritten(log: Path, into: Path, topic: str, change: Callable[[dict[str, Any]], bool]) -> Path:
    """Write a log again with the first message of a topic that `change` takes changed by it."""
    ring = Ring(RingSettings(into), {})
    by_topic = {channel.topic: channel for channel in CHANNELS}
    done = False
    for entry in FlightLog([log]):
        if not done and entry.topic == topic:
            done = change(entry.data)
        ring.add(by_topic[entry.topic], json.dumps(entry.data).encode(), entry.log_ns)
    ring.close()
    assert done
    return into


def test_a_drive_is_repeated_bit_for_bit(logs: tuple[Path, Path]) -> None:
    ended = run("replay", str(logs[0]), "--json", timeout_s=60.0)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert told["difference"] is None
    assert told["ticks"] > 20
    assert {"admission", "exit", "window"} <= told["decisions"].keys()
    assert told["unfinished"] == []


def test_every_channel_holds_what_it_is_for(logs: tuple[Path, Path]) -> None:
    topics = {entry.topic for entry in FlightLog([logs[0]])}
    assert {channel.topic for channel in (RULES, TICK, DECISION, EVENT, SCENE, POSE)} <= topics


def test_messages_have_the_keys_of_their_schemas(logs: tuple[Path, Path]) -> None:
    schemas = {channel.topic: channel.schema for channel in CHANNELS}
    for entry in FlightLog([logs[0]]):
        known = schemas[entry.topic]["properties"].keys()
        assert set(entry.data) - {"kind", "missed"} <= known


def test_mcap_s_own_reader_lists_the_channels(logs: tuple[Path, Path]) -> None:
    from mcap.reader import make_reader

    with files_of(logs[0])[0].open("rb") as stream:
        summary = make_reader(stream, validate_crcs=True).get_summary()
    assert summary is not None
    assert {schema.name for schema in summary.schemas.values()} >= {"foxglove.SceneUpdate", "foxglove.PoseInFrame"}
    assert {channel.message_encoding for channel in summary.channels.values()} == {"json"}


def _moved(data: dict[str, Any]) -> bool:
    decision = data["decision"]  # one that the place of an obstacle has made: a vehicle held at rest may stand anywhere
    if decision["mode"] != "admit" or not str(decision["limited_by"]).startswith("obstacle"):
        return False
    data["observation"]["x_m"] += 0.5
    return True


def _older(data: dict[str, Any]) -> bool:
    if data["decision"]["mode"] != "admit":
        return False
    data["now_s"] += 1.0
    return True


def _hastier(data: dict[str, Any]) -> bool:
    if data["what"] != "admission" or data["decided"]["refused"] is not None:
        return False
    data["asked"]["left_s"] = 1e-6
    return True


def _refused_later(data: dict[str, Any]) -> bool:
    if data["what"] != "admission" or data["decided"]["refused"] is None:
        return False
    data["asked"]["reserve_s"] += 0.001
    return True


def _surer(data: dict[str, Any]) -> bool:
    if data["what"] != "exit" or data["decided"]["ending"] != "confident":
        return False
    data["asked"]["confidence"] = 0.0
    return True


def _other_window(data: dict[str, Any]) -> bool:
    if data["what"] != "window" or data["decided"] != "local":
        return False
    data["decided"] = "idle"
    return True


CHANGES = [
    (TICK.topic, _moved, "decision."),
    (TICK.topic, _older, "decision."),
    (DECISION.topic, _hastier, "decided.refused was None"),
    (DECISION.topic, _refused_later, "decided.refused was"),
    (DECISION.topic, _surer, "decided.ending was 'confident'"),
    (DECISION.topic, _other_window, "decided was 'idle', comes out as 'local'"),
]


@pytest.mark.parametrize(
    ("topic", "change", "field"),
    CHANGES,
    ids=["pose", "clock", "time left", "reserve", "confidence", "window"],
)
def test_a_changed_input_is_found(
    logs: tuple[Path, Path], tmp_path: Path, topic: str, change: Callable[[dict[str, Any]], bool], field: str
) -> None:
    changed = rewritten(logs[0], tmp_path / "log", topic, change)
    ended = run("replay", str(changed), timeout_s=60.0)
    assert ended.returncode == 1
    assert "first difference: headway-" in ended.stdout
    assert field in ended.stdout


def middle_of_a_chunk(data: bytearray) -> int:
    """Return where the first chunk's compressed messages are: between chunks lies an index, which nobody reads."""
    at = MAGIC_SIZE
    while data[at] != Opcode.CHUNK:
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
    return at + 9 + int.from_bytes(data[at + 1 : at + 9], "little") // 2


def test_a_changed_byte_fails_its_checksum(logs: tuple[Path, Path], tmp_path: Path) -> None:
    whole = files_of(logs[0])[0]
    data = bytearray(whole.read_bytes())
    data[middle_of_a_chunk(data)] ^= 1
    damaged = tmp_path / whole.name
    damaged.write_bytes(data)
    ended = run("replay", str(damaged), timeout_s=60.0)
    assert ended.returncode == 1
    assert "bytes were changed after they were recorded" in ended.stderr


def test_what_a_killed_recorder_had_flushed_is_read_and_repeated(logs: tuple[Path, Path]) -> None:
    outcome = replay([logs[1]])
    assert outcome.difference is None
    assert outcome.ticks + outcome.left_out > 20
    assert outcome.unfinished == [files_of(logs[1])[0].name]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_is_read_to_there(logs: tuple[Path, Path], tmp_path: Path, share: float) -> None:
    whole = files_of(logs[0])[0].read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: int(share * len(whole))])
    entries = list(FlightLog([cut]))
    everything = list(FlightLog([files_of(logs[0])[0]]))
    assert [entry.data for entry in entries] == [entry.data for entry in everything[: len(entries)]]


def test_no_log_and_no_mcap_are_told(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="there is no flight log in"):
        FlightLog([tmp_path])
    text = tmp_path / "x.mcap"
    text.write_text("this is no log, and it is long enough to look at" * 9)
    with pytest.raises(LogError, match="x"):
        list(FlightLog([text]))


def test_a_ring_keeps_so_many_files_and_repeats_what_lasts(tmp_path: Path) -> None:
    ring = Ring(RingSettings(tmp_path, file_bytes=1 << 16, files=3), {})
    ring.add(RULES, b'{"pid": 7}', 1, lasting=True)
    rng = np.random.default_rng(1)
    for number in range(40):
        ring.add(EVENT, json.dumps({"data": {"x": rng.bytes(12_000).hex()}}).encode(), number)
        ring.flush()
    ring.close()
    files = files_of(tmp_path)
    assert len(files) == 3
    for path in files:
        assert next(iter(FlightLog([path]))).data == {"pid": 7}
        assert path.stat().st_size < 3 << 16


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    ring = Ring(RingSettings(tmp_path), {})
    with pytest.raises(UnavailableError, match="another recorder writes into"):
        Ring(RingSettings(tmp_path), {})
    ring.close()
    Ring(RingSettings(tmp_path), {}).close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot record in"):
        Ring(RingSettings(tmp_path / "file" / "log"), {})


@given(st.floats())
def test_any_number_comes_back_bit_for_bit(value: float) -> None:
    read = msgspec.convert(msgspec.json.decode(encode_plain({"x": value})), dict[str, float], strict=False)["x"]
    assert np.float64(read).tobytes() == np.float64(value).tobytes() or (read != read and value != value)


def in_words(value: Any) -> Any:
    """Return a value as JSON can say it: numbers that are not finite as words."""
    match value:
        case float() if not math.isfinite(value):
            return "nan" if math.isnan(value) else str(value)
        case list():
            return [in_words(each) for each in value]
        case dict():
            return {name: in_words(each) for name, each in value.items()}
    return value


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9)


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner)))
def test_any_value_is_read_as_it_was_written(value: Any) -> None:
    assert json.loads(encode_plain(value)) == in_words(value)
