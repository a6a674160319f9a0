"""What the commands that talk to a running daemon share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import headway
from runtime.errors import UnavailableError
from runtime.serve.sockets import runtime_folder


@contextmanager
def daemon_at(socket: Path | None) -> Iterator[headway.Client]:
    """Connect to the daemon at `socket`, or at its place in the runtime folder.

    Raises:
        UnavailableError: nobody answers there.
    """
    try:
        with headway.Client(socket or runtime_folder() / "headway.sock", timeout_s=2.0) as client:
            yield client
    except (headway.UnavailableError, headway.NoAnswerError) as error:
        raise UnavailableError(str(error)) from error
