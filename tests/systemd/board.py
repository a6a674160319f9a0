"""A board with a systemd of its own: the real one, as the first process of new namespaces, with the units we ship."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.processes import PATIENCE_S, wait_for

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
TOOLS = ("unshare", "nsenter", "setpriv", "ip", "systemctl", "systemd-sysusers", "systemd-tmpfiles")
LOG = Path("/var/log/headway.log")


class Board:
    """Starts it. Needs root; what the machine refuses skips the test.

    Args:
        work: An empty folder.
    """

    def __init__(self, work: Path) -> None:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None] + [str(SYSTEMD)] * (not SYSTEMD.exists())
        if os.geteuid() != 0 or missing:
            pytest.skip(f"needs root and a systemd: {', '.join(missing) or 'not root'}")
        self._group = _new_group(f"headway-board-{os.getpid()}")
        program = f"bin/python{sys.version_info.major}.{sys.version_info.minor}"
        what = (str(work), str(ROOT), sys.base_prefix, program, sysconfig.get_path("purelib"))
        enter = f'echo $$ > {self._group}/cgroup.procs; exec "$@"'
        namespaces = ("--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--fork", "--kill-child")
        apart = ("setpriv", "--pdeathsig", "KILL", "unshare", *namespaces)
        command = ["bash", "-c", enter, "-", *apart, "bash", str(Path(__file__).with_name("board.sh")), *what]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        told = self._told()
        if told[-1:] != ["prepared"]:
            self.end()
            pytest.skip(f"this machine lends no board: {' '.join(told)}")
        first = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0]
        self._enter = ("nsenter", "-t", first, "-p", "-m", "-n", "-i", "-u", "-C")
        wait_for(lambda: self.systemctl("is-system-running") in ("running", "degraded"))

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command on the board as root."""
        whole = [*self._enter, *command]
        return subprocess.run(whole, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)

    def headway(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of ours on the board as its user `headway`."""
        user = ("setpriv", "--reuid=headway", "--regid=headway", "--clear-groups")
        return self.run(*user, "/opt/headway/bin/headway", *arguments)

    def systemctl(self, *arguments: str) -> str:
        """Return what systemctl says, in one piece."""
        return self.run("systemctl", "--no-pager", *arguments).stdout.strip()

    def pid(self, unit: str) -> int:
        """Return the main process of a unit, as the board numbers it; 0: none."""
        return int(self.systemctl("show", "--property=MainPID", "--value", unit) or 0)

    def write(self, path: str, text: str) -> None:
        """Write a file of the board."""
        subprocess.run([*self._enter, "tee", path], input=text, capture_output=True, text=True, check=True)

    @property
    def log(self) -> str:
        """What the units printed."""
        return self.run("cat", str(LOG)).stdout

    def end(self) -> None:
        """Kill everything on the board and put away its control groups."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        wait_for(lambda: not _populated(self._group))
        for folder, _, _ in os.walk(self._group, topdown=False):
            os.rmdir(folder)

    def _told(self) -> list[str]:
        assert self._process.stdout is not None
        told: list[str] = []
        while told[-1:] != ["prepared"] and (line := self._process.stdout.readline()):
            told.append(line.strip())
        return told


def _new_group(name: str) -> Path:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    found = [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]
    if not found:
        pytest.skip("no cgroup2 is mounted")
    group = found[0] / name
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"control groups can't be made here: {error}")
    return group


def _populated(group: Path) -> bool:
    return "populated 1" in (group / "cgroup.events").read_text()
