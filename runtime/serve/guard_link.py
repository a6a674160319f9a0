"""The daemon's end of the guard's socket: finds the guard or starts one, sends proposals, hears the deadlines.

A guard that runs already is adopted, never doubled: its welcome says which vehicle it guards, and a daemon that
reckons with another refuses to start. The guard's process is watched through a pidfd, so that its death is seen at
once, and through its answers, so that a frozen one is seen too; either way a new one is started.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq

from runtime.errors import ConfigurationError, UnavailableError
from runtime.serve.guard_messages import Propose, Report, Request, Watch, Welcome, decode_reply, encode
from runtime.serve.realtime import at_large
from runtime.serve.sockets import ipc_address, owner_of
from shield.vehicle import Vehicle

_log = logging.getLogger("headway.guard")
_HEARTBEAT_S = 0.25
_SILENT_S = 2.0
_AWAY_S = 0.5
_ADOPT_WAIT_S = 0.3
_START_WAIT_S = 10.0
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class GuardCommand:
    """How to start a guard when there is none.

    Args:
        socket: The guard's unix socket.
        arguments: Command line of a guard process; empty: never start one.
    """

    socket: Path
    arguments: tuple[str, ...]


def guard_arguments(socket: Path, vehicle: str, *, extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the command line that runs a guard for `vehicle` at `socket` with this interpreter."""
    command = (sys.executable, "-P", "-m", "runtime.cli.main", "guard")
    return (*command, "--socket", str(socket), "--vehicle", vehicle, *extra)


class GuardLink:
    """One daemon's connection to its guard; used from the daemon's socket thread alone."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        poller: zmq.Poller,
        vehicle: Vehicle,
        command: GuardCommand,
        on_report: Callable[[Report], None],
    ) -> None:
        self._context = context
        self._poller = poller
        self._vehicle = vehicle
        self._command = command
        self._on_report = on_report
        self._heard_s = 0.0
        self._beat_s = 0.0
        self._attended_s = 0.0
        self._pidfd: int | None = None
        self._child: int | None = None
        self._start_s = 0.0
        self._sought = False
        self.welcome: Welcome | None = None
        self.adopted = False
        self.restarts = 0
        self.socket = self._connect()

    def seek(self) -> None:
        """Adopt the guard that runs at the socket, or start one without waiting for it; `open` waits.

        Raises:
            ConfigurationError: the running guard guards another vehicle.
            UnavailableError: none runs and none may be started.
        """
        self._sought = True
        runs = owner_of(self._command.socket) is not None
        may_be_there = runs or self._command.socket.exists() or not self._command.arguments
        if may_be_there and self._await_welcome(_START_WAIT_S if runs else _ADOPT_WAIT_S):
            self.adopted = True
            pid = None if self.welcome is None else self.welcome.pid
            _log.info("adopted the guard, process %s", pid, extra={"code": "guard_adopted", "guard_pid": pid})
        else:
            self._start()

    def open(self) -> None:
        """Adopt the guard that runs at the socket, or start one, and wait until it answers.

        Raises:
            ConfigurationError: the running guard guards another vehicle.
            UnavailableError: none runs and none could be started.
        """
        if not self._sought:
            self.seek()
        if self.welcome is None and not self._await_welcome(_START_WAIT_S):
            raise UnavailableError(f"no guard answers at {self._command.socket} {_START_WAIT_S:g} s after its start")

    def propose(self, stamp_ns: int, beta_rad: float, speed_mps: float) -> None:
        """Tell the guard which control the daemon would apply."""
        self._send(Propose(stamp_ns, beta_rad, speed_mps))

    def receive(self) -> None:
        """Take in every message that is here."""
        while True:
            try:
                frame = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            reply = decode_reply(frame)
            self._heard_s = time.monotonic()
            if isinstance(reply, Report):
                self._on_report(reply)
            elif isinstance(reply, Welcome):
                self._greet(reply)

    def attend(self, ready: dict[object, int]) -> None:
        """Send the heartbeat when due, and replace a guard that died or fell silent.

        Silence counts only while this daemon listened: one that was itself held up hears first what waits for it.
        """
        now_s = time.monotonic()
        if now_s - self._attended_s > _AWAY_S:
            self.resume()
        self._attended_s = now_s
        if self._pidfd is not None and self._pidfd in ready:
            self._replace("it died")
        elif self.welcome is None and now_s - self._start_s > _RETRY_S and self._reap() is not None:
            self._replace("it ended at its start")
        elif now_s - self._heard_s > _SILENT_S and self.welcome is not None:
            self._kill(self.welcome.pid)
            self._replace(f"it was silent for {_SILENT_S:g} s")
        if now_s - self._beat_s > _HEARTBEAT_S:
            self._beat_s = now_s
            self._send(self._watch())

    def resume(self) -> None:
        """Count the guard's silence from now on; call after doing something for long without `receive` and `attend`."""
        self._heard_s = time.monotonic()

    def close(self) -> None:
        """Let go of the guard; it lives on."""
        self._forget_process()
        self._poller.unregister(self.socket)
        self.socket.close()

    def _connect(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDHWM, 16)
        socket.setsockopt(zmq.RECONNECT_IVL, 10)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 100)
        socket.connect(ipc_address(self._command.socket))
        self._poller.register(socket, zmq.POLLIN)
        return socket

    def _watch(self) -> Watch:
        return Watch(fingerprint=self._vehicle.fingerprint(), pid=os.getpid())

    def _send(self, message: Request) -> None:
        """Send without waiting: while there is no guard there is nobody to propose to."""
        try:
            self.socket.send(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return

    def _await_welcome(self, patience_s: float) -> bool:
        until_s = time.monotonic() + patience_s
        while self.welcome is None and time.monotonic() < until_s:
            self._send(self._watch())
            if self.socket.poll(50):
                self.receive()
            code = self._reap()
            if code == UnavailableError.exit_code:  # another daemon was quicker: its guard holds the socket
                self.adopted = True
            elif code is not None:
                raise UnavailableError(f"the guard ended at its start with exit code {code}: its reason is in the log")
        return self.welcome is not None

    def _greet(self, welcome: Welcome) -> None:
        mine = self._vehicle.fingerprint()
        if welcome.fingerprint != mine:
            raise ConfigurationError(
                f"the guard at {self._command.socket} (process {welcome.pid}) guards vehicle {welcome.vehicle!r} "
                f"({welcome.fingerprint[:12]}), this daemon reckons with {self._vehicle.name!r} ({mine[:12]}): "
                "give both the same vehicle file, or stop that guard first"
            )
        known = self.welcome is not None and self.welcome.pid == welcome.pid
        self.welcome = welcome
        if not known:
            self._forget_process()
            try:
                self._pidfd = os.pidfd_open(welcome.pid)
            except ProcessLookupError:  # it has died since
                self.welcome = None
                return
            self._poller.register(self._pidfd, zmq.POLLIN)

    def _start(self) -> None:
        if not self._command.arguments:
            raise UnavailableError(f"no guard answers at {self._command.socket}, and this daemon may not start one")
        arguments = self._command.arguments
        no_input = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        with at_large():
            self._child = os.posix_spawn(arguments[0], arguments, os.environ, setsid=True, file_actions=[no_input])
        self._heard_s = self._start_s = time.monotonic()
        _log.info("started a guard, process %d", self._child, extra={"code": "guard_started", "guard_pid": self._child})

    def _replace(self, why: str) -> None:
        _log.error("the guard is replaced: %s", why, extra={"code": "guard_replaced", "why": why})
        self._forget_process()
        self.welcome = None
        self.restarts += 1
        self._reap(wait=True)
        if self._command.arguments:
            self._start()  # else who started the former one starts the next, and the heartbeat finds it

    def _reap(self, *, wait: bool = False) -> int | None:
        """Return the exit code of the guard that this process started, once it has ended."""
        if self._child is None:
            return None
        pid, status = os.waitpid(self._child, 0 if wait else os.WNOHANG)
        if pid == 0:
            return None
        self._child = None
        return os.waitstatus_to_exitcode(status)

    def _kill(self, pid: int) -> None:
        if self._pidfd is None:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            _log.info("the silent guard %d had ended already", pid, extra={"code": "guard_gone", "guard_pid": pid})
        except PermissionError:
            told = {"code": "guard_of_another_user", "guard_pid": pid}
            _log.error("the silent guard %d belongs to another user: who started it must end it", pid, extra=told)

    def _forget_process(self) -> None:
        if self._pidfd is not None:
            self._poller.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
