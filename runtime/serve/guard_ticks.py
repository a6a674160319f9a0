"""A tick of the guard as a record: what went in, what came out, and now and then all that the guard remembered.

A guard's decision is a function of what it remembers, its clock, the observation and the newest proposal. Recorded
together they let the same tick be made again, bit for bit, from any tick whose memory was recorded.
"""

from typing import Any

import msgspec

from runtime.serve.guard_messages import DecisionMessage, Observe, Propose
from shield.guard import Decision, Guard, GuardSettings, Observation, Proposal
from shield.guard.flight import CommandLog, Issued
from shield.state import Disc, State
from shield.vehicle import Vehicle

_NS = 1e-9


class Memory(msgspec.Struct, frozen=True):
    """All that a guard remembers between two ticks."""

    now_s: float
    seen_s: float
    applied_id: int
    last_id: int
    proposal: Proposal | None
    decision: Decision | None
    issued: tuple[Issued, ...]


class Followed(msgspec.Struct, tag="followed/1", tag_field="kind", frozen=True):
    """The guard's answer to the first `follow`: whom it guards and by which rules."""

    pid: int
    fingerprint: str
    certificate: str | None
    vehicle: Vehicle
    settings: GuardSettings


class Tick(msgspec.Struct, tag="tick/1", tag_field="kind", frozen=True):
    """One tick.

    Args:
        pid: The guard's process.
        number: Counts its ticks from 1; one that is missing here was lost on its way.
        now_s: Its clock [s].
        observation, proposal: What it was given; None: nothing.
        decision: What it answered.
        memory: What it remembered before; None in most ticks.
        exceeded: The exceeded bound that has it slow the vehicle down; vehicle and daemon were told a deadline of 0.
    """

    pid: int
    number: int
    now_s: float
    observation: Observe | None
    proposal: Propose | None
    decision: DecisionMessage
    memory: Memory | None = None
    exceeded: str = ""


def memory_of(guard: Guard) -> Memory:
    """Return what a guard remembers."""
    held = vars(guard)
    return Memory(
        now_s=held["_now_s"],
        seen_s=held["_seen_s"],
        applied_id=held["_applied_id"],
        last_id=held["_last_id"],
        proposal=held["_proposal"],
        decision=held["_decision"],
        issued=tuple(held["_log"]._issued),
    )


def guard_with(vehicle: Vehicle, settings: GuardSettings, memory: Memory) -> Guard:
    """Return a guard that remembers `memory`."""
    guard = Guard(vehicle, settings)
    log = CommandLog(vehicle)
    for issued in memory.issued:
        log.add(issued)
    held: dict[str, Any] = {
        "_now_s": memory.now_s,
        "_seen_s": memory.seen_s,
        "_applied_id": memory.applied_id,
        "_last_id": memory.last_id,
        "_proposal": memory.proposal,
        "_decision": memory.decision,
        "_log": log,
    }
    vars(guard).update(held)
    return guard


def observation_of(message: Observe) -> Observation:
    """Return an observation as the guard takes it."""
    state = State(message.x_m, message.y_m, message.heading_rad, message.beta_rad, message.speed_mps)
    discs = tuple(Disc(*item) for item in message.obstacles)
    return Observation(message.stamp_ns * _NS, state, discs, message.applied_id)


def proposal_of(message: Propose) -> Proposal:
    """Return a proposal as the guard takes it."""
    return Proposal(message.stamp_ns * _NS, message.beta_rad, message.speed_mps)
