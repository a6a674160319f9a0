"""Keeping the way of a request warm: it is gone through, and nobody notices."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from runtime.serve.api import codec, local, messages
from runtime.serve.api.quota import Quotas


class NoSegments:
    """No shared memory."""

    def memory(self, segment: int) -> None:
        """Return nothing."""


def test_a_request_that_nobody_sent_is_read_and_answered_and_counts_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    service = SimpleNamespace(events=None)
    rooms = cast(Any, SimpleNamespace(service=service, mailbox=None, segments=NoSegments()))
    api = local.LocalApi((), rooms, Quotas())
    written: list[messages.FromDaemon] = []

    def encode(message: messages.FromDaemon) -> bytes:
        written.append(message)
        return b""

    monkeypatch.setattr(codec, "encode", encode)
    api.keep_warm()
    (answer,) = written
    assert isinstance(answer, messages.Answer)
    assert [(tensor.name, tensor.shape, tensor.at) for tensor in answer.tensors] == [("x", (1, 16), None)]
    assert (api.requests, api.refused) == (0, 0)
