"""Whom an edge server shows out first when more clients come than it may have files."""

import pytest
import zmq

from devices.clock import VirtualClock
from offload.server.clients import Clients


def test_who_was_told_goes_first_then_who_is_silent(context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    clock = VirtualClock()
    router = context.socket(zmq.ROUTER)
    clients = Clients(router, 8, clock)
    try:
        assert clients._first_to_go(9) == 9  # nobody else is there to go
        clients._let_leave(1)
        clients._let_leave(2)
        clients._let_leave(9)
        assert clients._first_to_go(9) == 1  # nobody has been told
        clients._told[2] = clock.now_s()
        assert clients._first_to_go(9) == 2  # 1 has come just now, and may say something yet
        clock.advance(0.15)
        clients._let_leave(3)
        clients._told[3] = clock.now_s()
        assert clients._first_to_go(9) == 2
        del clients._told[2], clients._refused[2]
        assert clients._first_to_go(9) == 1  # silent for long, while the word to 3 may not be out yet
    finally:
        clients.close()
        router.close()


def test_a_descriptor_that_is_used_again_gets_a_time_of_its_own(
    context: "zmq.Context[zmq.Socket[bytes]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    router = context.socket(zmq.ROUTER)
    clients = Clients(router, 8, clock)
    shown_out: list[int] = []
    monkeypatch.setattr(clients, "_shut", shown_out.append)
    try:
        clients._let_leave(5)
        clients._refused.pop(5)  # it left by itself
        clock.advance(0.9)
        clients._let_leave(5)
        clock.advance(0.2)
        clients.tick()
        assert shown_out == []
        clock.advance(0.8)
        clients.tick()
        assert shown_out == [5]
    finally:
        clients.close()
        router.close()
