"""Clients of the local socket that asked to be told of events.

A subscription is a lease: a client prolongs it by sending it again, and one that died is told no more once the lease is
over or ZeroMQ says that it is gone. A client that does not read loses events, and the next one it gets says how many.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from runtime.serve.api.messages import EventMessage
from runtime.serve.api.quota import Client
from runtime.serve.events import Event, EventHub, Topic
from runtime.serve.mailbox import Mailbox

LEASE_S = 10.0


@dataclass(slots=True)
class _Subscription:
    """One client's wish to be told."""

    topics: frozenset[Topic]
    end: Callable[[], None]
    until_s: float
    missed: int = field(default=0)


class Subscriptions:
    """All subscriptions; used on the socket thread alone, events may come on any.

    Args:
        hub: Where events come from.
        mailbox: Brings them to the socket thread.
        send: Sends a message to a client; returns False where it does not take it, None where it is gone.
    """

    def __init__(self, hub: EventHub, mailbox: Mailbox, send: Callable[[Client, EventMessage], bool | None]) -> None:
        self._hub = hub
        self._mailbox = mailbox
        self._send = send
        self._open: dict[tuple[Client, int], _Subscription] = {}

    def count(self, client: Client) -> int:
        """Return how many subscriptions a client has."""
        return sum(key[0] == client for key in self._open)

    def known(self, client: Client, number: int) -> bool:
        """Return whether a client has this subscription."""
        return (client, number) in self._open

    def begin(self, client: Client, number: int, topics: frozenset[Topic]) -> None:
        """Begin subscription `number` of a client, or prolong it; other topics take the place of those before."""
        known = self._open.get((client, number))
        until_s = time.monotonic() + LEASE_S
        if known is not None and known.topics == topics:
            known.until_s = until_s
            return
        self.end(client, number)

        def take(event: Event) -> None:
            self._mailbox.put(partial(self._tell, client, number, event))

        self._open[client, number] = _Subscription(topics, self._hub.subscribe(topics, take), until_s)

    def end(self, client: Client, number: int) -> None:
        """End a subscription; does nothing where there is none."""
        known = self._open.pop((client, number), None)
        if known is not None:
            known.end()

    def attend(self) -> None:
        """End the subscriptions whose lease is over."""
        now_s = time.monotonic()
        for client, number in [key for key, known in self._open.items() if known.until_s < now_s]:
            self.end(client, number)

    def close(self) -> None:
        """End all subscriptions."""
        for client, number in tuple(self._open):
            self.end(client, number)

    def _tell(self, client: Client, number: int, event: Event) -> None:
        known = self._open.get((client, number))
        if known is None:
            return
        message = EventMessage(
            id=number,
            topic=event.topic,
            number=event.number,
            at_ns=event.at_ns,
            missed=known.missed,
            data=dict(event.data),
        )
        sent = self._send(client, message)
        if sent is None:
            self.end(client, number)
        elif sent:
            known.missed = 0
        else:
            known.missed += 1
