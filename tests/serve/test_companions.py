"""Flight recorder and live page beside a real daemon: refused at its start, started again, gone with it."""

import json
import os
import signal
import socket as sockets
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from runtime.observe.follower import Follower
from tests.observe.drives import PACKAGE, driven, free_port
from tests.processes import run, wait_for

pytestmark = pytest.mark.timeout(120)


def _status(socket: Path) -> dict[str, Any]:
    told = run("status", "--socket", str(socket), "--json")
    assert told.returncode == 0, told.stderr
    status: dict[str, Any] = json.loads(told.stdout)
    return status


def _free(port: int) -> bool:
    with sockets.socket() as probe:
        probe.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_companion_that_ends_is_started_again_and_told(tmp_path: Path) -> None:
    with driven(tmp_path, "--record", str(tmp_path / "log")) as running:
        first = _status(running.socket)["companions"]["record"]
        assert (first["restarts"], first["last_exit_code"]) == (0, None)
        os.kill(first["pid"], signal.SIGKILL)
        wait_for(lambda: _status(running.socket)["companions"]["record"]["restarts"] == 1)
        again = _status(running.socket)["companions"]["record"]
        assert again["pid"] not in (None, first["pid"])
        assert again["last_exit_code"] == -signal.SIGKILL


def test_the_page_ends_with_a_killed_daemon(tmp_path: Path) -> None:
    port = free_port()
    with driven(tmp_path, "--page", f"127.0.0.1:{port}") as running:
        wait_for(lambda: not _free(port))
        running.process.kill()
        wait_for(lambda: _free(port))


def test_a_folder_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    told = run(
        "serve", "--socket", str(tmp_path / "d.sock"), "--package", str(PACKAGE), "--record", str(tmp_path / "log")
    )
    assert told.returncode == 78
    assert f"observe.record = {tmp_path / 'log'}: " in told.stderr


def test_a_taken_address_of_the_page_is_refused_at_the_start(tmp_path: Path) -> None:
    with closing(sockets.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = run("serve", "--socket", str(tmp_path / "d.sock"), "--package", str(PACKAGE), "--page", address)
    assert told.returncode == 69
    assert f"cannot bind observe.page = {address}: Address already in use" in told.stderr


def test_a_daemon_in_which_nothing_happens_is_heard_all_the_same(tmp_path: Path) -> None:
    daemon = tmp_path / "d.sock"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.bind(f"ipc://{daemon}")
        with Follower(None, daemon, ("window",)) as follower:
            before_s = follower.heard_s
            wait_for(lambda: follower.listen(0.05) == [] and bool(router.poll(0)))
            assert follower.heard_s == before_s
            peer, _ = router.recv_multipart()
            router.send_multipart([peer, msgpack.packb({"kind": "subscribed/1", "id": 1})])
            wait_for(lambda: follower.listen(0.05) == [] and follower.heard_s > before_s)
