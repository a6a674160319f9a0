"""A ring of MCAP files of bounded size, of which a killed process loses at most the last second.

Messages gather in a chunk; `flush` ends the chunk and hands it to the disk. The recorder does so every second, so that
what was recorded before the last flush survives a kill -9 (and, by fdatasync, a power cut). A file that lost its end
has no index: readers go through it from its beginning. A file is full at `file_bytes`; when there are more than
`files`, the oldest go. One process at a time writes into a folder.
"""

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mcap.writer import CompressionType, Writer

from runtime.errors import ConfigurationError, UnavailableError
from runtime.observe.recorder.channels import CHANNELS, Channel

PREFIX = "headway-"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RingSettings:
    """How much is kept.

    Args:
        folder: Where the files lie.
        file_bytes: About how large a file gets [B].
        files: How many are kept, the one that is written included.
    """

    folder: Path
    file_bytes: int = 32 << 20
    files: int = 8

    def __post_init__(self) -> None:
        if self.file_bytes < 1 << 16:
            raise ConfigurationError(f"file_bytes = {self.file_bytes}: must be at least {1 << 16}")
        if self.files < 2:
            raise ConfigurationError(f"files = {self.files}: must be at least 2, one being written and one before it")


class Ring:
    """Writes messages into the newest file of a ring.

    Args:
        settings: Where, and how much.
        metadata: What each file tells of its origin.
    Raises:
        ConfigurationError: the folder cannot be made or written.
        UnavailableError: another process writes into it.
    """

    def __init__(self, settings: RingSettings, metadata: dict[str, str]) -> None:
        self._settings = settings
        self._metadata = metadata
        self._last: dict[Channel, bytes] = {}
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        try:
            settings.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (settings.folder / "recorder.lock").open("w")
            self._take_lock()
            self._begin()
        except OSError as error:
            raise ConfigurationError(f"cannot record in {settings.folder}: {error.strerror}") from error

    @property
    def path(self) -> Path:
        """The file that is written."""
        return self._path

    def add(self, channel: Channel, data: bytes, at_ns: int, *, lasting: bool = False) -> None:
        """Write a message of CLOCK_MONOTONIC `at_ns` [ns]; a lasting one again at the head of every file to come."""
        if lasting:
            self._last[channel] = data
        self._write(channel, data, at_ns)

    def flush(self) -> None:
        """Hand what was added to the disk, and begin the next file if this one is full."""
        self._writer.flush()  # type: ignore[no-untyped-call]
        os.fdatasync(self._file.fileno())
        if self._file.tell() >= self._settings.file_bytes:
            self._end()
            self._begin()

    def close(self) -> None:
        """End the file, and leave the folder to others."""
        self._end()
        self._lock.close()

    def _end(self) -> None:
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self._file.close()

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise UnavailableError(f"another recorder writes into {self._settings.folder}: choose another") from error

    def _write(self, channel: Channel, data: bytes, at_ns: int) -> None:
        log_ns = at_ns + self._offset_ns
        self._writer.add_message(self._ids[channel], log_time=log_ns, data=data, publish_time=log_ns)

    def _begin(self) -> None:
        now_ns = time.time_ns()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now_ns // 1_000_000_000))
        self._path = self._settings.folder / f"{PREFIX}{stamp}-{now_ns % 1_000_000_000:09d}.mcap"
        self._file: BinaryIO = self._path.open("xb")
        self._writer = Writer(self._file, chunk_size=_CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._writer.start(profile="", library="headway")
        self._writer.add_metadata("headway", self._metadata)
        self._ids: dict[Channel, int] = {}
        for channel in CHANNELS:
            schema = self._writer.register_schema(channel.schema_name, "jsonschema", channel.schema_bytes())
            self._ids[channel] = self._writer.register_channel(channel.topic, "json", schema)
        for channel, data in self._last.items():
            self._write(channel, data, time.monotonic_ns())
        for old in files_of(self._settings.folder)[: -self._settings.files]:
            old.unlink(missing_ok=True)


def files_of(folder: Path) -> list[Path]:
    """Return the files of a ring, the oldest first."""
    return sorted(folder.glob(f"{PREFIX}*.mcap"))
