"""Tells systemd how a service fares: ready, reloading, stopping, alive, and one line of status.

A service of Type=notify finds the path of a datagram socket in $NOTIFY_SOCKET and sends assignments there, one a line:

    READY=1    STATUS=3 models    WATCHDOG=1    RELOADING=1    STOPPING=1

Without the variable nothing is sent. Both variables are taken out of the environment, so that processes started later
do not speak for this one. A datagram that does not fit is lost: no service waits for its supervisor.

Reference: sd_notify(3), sd_watchdog_enabled(3).
"""

import logging
import os
import socket
import time
from collections.abc import MutableMapping

_log = logging.getLogger("headway.service")


class Notifier:
    """The way to the service manager; use it from one thread.

    Args:
        address: Path of its socket, "@name" for an abstract one; None: there is no manager.
        watchdog_s: It expects a sign of life this often [s]; None: it expects none.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = None if address is None else f"\0{address[1:]}" if address[0] == "@" else address
        self._socket: socket.socket | None = None
        self._every_s = None if watchdog_s is None else watchdog_s / 3.0
        self._due_s = 0.0
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def __enter__(self) -> "Notifier":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self, status: str) -> None:
        """Say that the service serves, again after `reloading`."""
        self._send("READY=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Say in one line what goes on."""
        self._send(f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """Say that the configuration is being read again; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self, status: str) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1", f"STATUS={_line(status)}")

    def alive(self) -> None:
        """Give a sign of life where one is due; call it once a round of the loop that must not hang."""
        if self._every_s is None:
            return
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + self._every_s
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *assignments: str) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            self._socket.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            _log.warning(
                "the service manager was not told %s: %s",
                assignments[0],
                error.strerror,
                extra={"code": "manager_untold"},
            )


def notifier(environment: MutableMapping[str, str] | None = None) -> Notifier:
    """Return the way to the manager that started this process, and take its variables out of the environment.

    Args:
        environment: None: this process's.
    """
    variables = os.environ if environment is None else environment
    address = variables.pop("NOTIFY_SOCKET", None)
    interval = variables.pop("WATCHDOG_USEC", None)
    meant = variables.pop("WATCHDOG_PID", None)
    if not address or address[0] not in "/@":
        if address:
            _log.warning(
                "NOTIFY_SOCKET = %r: must be a path or @name; the service manager is told nothing",
                address,
                extra={"code": "manager_untold"},
            )
        return Notifier()
    if interval is None or not interval.isdecimal() or int(interval) == 0 or meant not in (None, str(os.getpid())):
        return Notifier(address)
    return Notifier(address, int(interval) * 1e-6)


def _line(text: str) -> str:
    return " ".join(text.split())
