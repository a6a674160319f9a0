"""What wakes a poller, and messages of several frames."""

import select

import numpy as np
import pytest
import zmq

from offload.multipart import receive_frames, receive_routed, send_frames, send_routed
from offload.wakeup import Wakeup, holds_message


def is_readable(wakeup: Wakeup) -> bool:
    return select.select([wakeup], [], [], 0.0)[0] == [wakeup]


def test_it_is_readable_from_set_to_clear() -> None:
    wakeup = Wakeup()
    try:
        assert not is_readable(wakeup)
        wakeup.clear()
        for _ in range(3):
            wakeup.set()
            wakeup.set()
            assert is_readable(wakeup)
            wakeup.clear()
            wakeup.clear()
            assert not is_readable(wakeup)
    finally:
        wakeup.close()
    wakeup.close()
    wakeup.set()
    wakeup.clear()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_messages_there_and_back(context: "zmq.Context[zmq.Socket[bytes]]", count: int) -> None:
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    try:
        router.bind("inproc://here")
        dealer.connect("inproc://here")
        data = [np.full((2, size), size, np.float32) for size in range(1, count + 1)]
        send_frames(dealer, b"there", data)
        assert holds_message(router)
        peer, frames = receive_routed(router)
        assert [frame.bytes for frame in frames] == [b"there", *(item.tobytes() for item in data)]
        assert not holds_message(router)
        with pytest.raises(zmq.Again):
            receive_routed(router)
        large = np.ones(2**19, np.float32)  # not copied on its way
        send_routed(router, peer, b"back", [*data, large])
        assert [frame.bytes for frame in receive_frames(dealer)][1:] == [item.tobytes() for item in (*data, large)]
        with pytest.raises(zmq.Again):
            receive_frames(dealer)
    finally:
        router.close()
        dealer.close()
