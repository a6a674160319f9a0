"""Reads a flight log: whole files, files without an end, folders of files.

A file whose writer was killed ends in the middle of a record: what comes before is read, and the end is told. A chunk
whose bytes have changed since it was written fails its checksum, and is an error that names the place.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import zstandard
from mcap.exceptions import InvalidMagic, McapError
from mcap.records import Channel, Chunk, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

from runtime.errors import ConfigurationError, RunError
from runtime.observe.recorder.channels import CHANNELS
from runtime.observe.recorder.ring import files_of

_DAMAGE = (McapError, ValueError, struct.error, KeyError, zstandard.ZstdError, msgspec.MsgspecError)


class LogError(RunError):
    """A flight log cannot be read; the message says which file, where and why."""


class NoLogError(LogError):
    """What was given is no flight log."""

    exit_code = ConfigurationError.exit_code


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of a log.

    Args:
        path: The file.
        topic: The channel's.
        log_ns: Its time of day [ns].
        data: What it says.
    """

    path: Path
    topic: str
    log_ns: int
    data: dict[str, Any]


class FlightLog:
    """The messages of one or more files, in the order in which they were recorded.

    Args:
        paths: Files, or folders of a recorder.
    Raises:
        NoLogError: there is no file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.files: list[Path] = []
        for path in paths:
            self.files += files_of(path) if path.is_dir() else [path]
        if not self.files:
            raise NoLogError(f"there is no flight log in {', '.join(map(str, paths))}")
        self.unfinished: list[Path] = []
        """Files read so far that lack their end: their recorder was killed, or still writes."""

    def __iter__(self) -> Iterator[Entry]:
        """Yield the messages.

        Raises:
            NoLogError: a file cannot be opened, or is no MCAP file.
            LogError: a file was damaged.
        """
        for path in self.files:
            yield from self._entries(path)

    def _entries(self, path: Path) -> Iterator[Entry]:
        topics: dict[int, str] = {}
        known = {channel.topic for channel in CHANNELS}
        last_ns = 0
        try:
            with path.open("rb") as stream:
                for record in self._records(path, stream):
                    if isinstance(record, Channel):
                        topics[record.id] = record.topic
                    elif isinstance(record, Message) and topics[record.channel_id] in known:
                        last_ns = record.log_time
                        yield Entry(path, topics[record.channel_id], last_ns, msgspec.json.decode(record.data))
        except OSError as error:
            raise NoLogError(f"cannot read {path}: {error.strerror}") from error
        except _DAMAGE as error:
            if isinstance(error, InvalidMagic) and not topics:
                raise NoLogError(f"{path} is no flight log: it does not begin as an MCAP file does") from error
            after = f" after the message of {last_ns} ns" if last_ns else ""
            raise LogError(f"{path}: bytes were changed after they were recorded{after}: {error!r}") from error

    def _records(self, path: Path, stream: IO[bytes]) -> Iterator[Schema | Channel | Message]:
        """Yield the records of all chunks; what goes wrong at the very end of the file is a record cut off there."""
        reader = StreamReader(stream, validate_crcs=True, emit_chunks=True).records
        try:
            for record in reader:
                if isinstance(record, Chunk):
                    for inner in breakup_chunk(record, validate_crc=True):
                        if isinstance(inner, Schema | Channel | Message):
                            yield inner
        except _DAMAGE:
            if stream.read(1):
                raise
            self.unfinished.append(path)
