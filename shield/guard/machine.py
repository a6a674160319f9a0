"""The guard's state machine: hold, admit, or run the backup.

At each tick it looks for a *pair*, a control to hold until a time and a constant backup manoeuvre that takes over then,
certified by the `backup` deadline from the observed state and from every state the commands in flight can lead to. A
pair is replaced by another certified pair only; without one the vehicle runs the backup it has stored. So by induction,
starting at rest, the vehicle holds a certified pair at every instant, and no listed obstacle is hit while the declared
bounds hold, whatever proposals come or fail to come.

The clock is passed in, nothing is read or written, and no input makes `tick` raise: bad input gives the stored backup
and a reason.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from shield.certificate import CAP_S
from shield.deadline import Method, tolerable_deadline
from shield.guard.certify import Pair, certified_pair, quick_deadline
from shield.guard.flight import CommandLog, Issued, grow_for_flight
from shield.guard.messages import (
    AT_REST,
    CLOCK_GRAIN_S,
    Control,
    Decision,
    Mode,
    Observation,
    Proposal,
    Reason,
    flaw_of_observation,
)
from shield.guard.search import Ladder, nearest
from shield.manoeuvre import Manoeuvre, backup_slip_rad
from shield.state import Disc, State
from shield.vehicle import Vehicle

STRAIGHT_STOPS = (Manoeuvre.BRAKE, Manoeuvre.BRAKE_STRAIGHT)
"""Stops that leave the vehicle on its way; the others turn it round at full lock."""

STANDING_MPS = 0.05
"""A measured speed up to this above its error counts as standing, where the vehicle says that it has not started."""


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """What the guard may choose; nothing here can make it unsafe.

    Args:
        tick_s: Time between two ticks [s]; at least the vehicle's own bound is covered.
        proposal_max_age_s: An older proposal is followed no more [s].
        state_max_age_s: A pair is held no longer than this after the observation it rests on [s].
        cap_s: Deadlines are not looked for beyond this [s]; at most what a certificate proves.
        comfort_s: How long a slip angle must leave a way to steer, where steering is chosen over braking [s].
        report_barrier: Whether decisions carry the barrier's deadline beside the tolerable one.
        ladder: Slip angles tried around a proposal that cannot be certified.
    """

    tick_s: float = 0.02
    proposal_max_age_s: float = 0.2
    state_max_age_s: float = 0.5
    cap_s: float = CAP_S
    comfort_s: float = 0.1
    report_barrier: bool = True
    ladder: Ladder = field(default_factory=Ladder)

    def __post_init__(self) -> None:
        for name in ("tick_s", "proposal_max_age_s", "state_max_age_s", "cap_s"):
            value = getattr(self, name)
            if not 0.0 < value < math.inf:
                raise ValueError(f"{name} = {value!r}: must be a positive number of seconds")
        if self.cap_s > CAP_S:
            raise ValueError(
                f"cap_s = {self.cap_s!r}: no certificate proves deadlines beyond {CAP_S:g} s; ask for less"
            )
        if not 0.0 <= self.comfort_s < math.inf:
            raise ValueError(f"comfort_s = {self.comfort_s!r}: must be a number of seconds that is not negative")


class Guard:
    """Decides, at every tick, which control the vehicle may hold and until when.

    Args:
        vehicle: Vehicle with its declared bounds.
        settings: What the guard may choose.
    """

    def __init__(self, vehicle: Vehicle, settings: GuardSettings | None = None) -> None:
        self.vehicle = vehicle
        self.settings = settings or GuardSettings()
        bounds = vehicle.bounds
        # Deadlines count from the observation, so no age is left for the deadline to account for.
        self._dated = replace(vehicle, bounds=replace(bounds, sensing_age_s=0.0))
        self._unbraked = replace(self._dated, deceleration_mps2=None)
        self.flight_s = bounds.sensing_age_s + bounds.actuation_delay_s
        # From an observation to the last instant at which the next one's decision may take effect.
        self.need_s = max(self.settings.tick_s, bounds.tick_s) + bounds.jitter_s + self.flight_s
        self._log = CommandLog(vehicle)
        self._now_s = -math.inf
        self._seen_s = -math.inf
        self._applied_id = 0
        self._last_id = 0
        self._proposal: Proposal | None = None
        self._decision: Decision | None = None

    def tick(self, now_s: float, observation: Observation | None, proposal: Proposal | None) -> Decision:
        """Return the decision of this tick; never raises, whatever the arguments hold.

        Args:
            now_s: The guard's clock [s].
            observation: What the vehicle side measured; None when nothing came.
            proposal: The newest control asked for; None when none came. It may be repeated.
        """
        try:
            return self._tick(now_s, observation, proposal)
        except Exception:
            # Whatever went wrong in here, the vehicle must get an answer, and it has a certified one stored.
            return self._back_up(Reason.CERTIFIER_FAILED)

    def _tick(self, now_s: float, observation: Observation | None, proposal: Proposal | None) -> Decision:
        if not (math.isfinite(now_s) and now_s >= self._now_s):
            return self._back_up(Reason.CLOCK_INVALID)
        self._now_s = now_s
        is_new, flaw = self._take_proposal(proposal)
        fault = self._fault_of(observation)
        if fault is not None or observation is None:
            return self._without_observation(fault or Reason.OBSERVATION_MISSING)
        self._seen_s = observation.stamp_s
        self._applied_id = observation.applied_id
        self._log.forget(observation.applied_id, observation.stamp_s - CLOCK_GRAIN_S)
        asked = self._proposal
        if asked is None or now_s - asked.stamp_s > self.settings.proposal_max_age_s:
            reason = flaw or (Reason.PROPOSAL_MISSING if asked is None else Reason.PROPOSAL_STALE)
            return self._without_proposal(observation, reason)
        return self._certify(observation, asked, Mode.ADMIT if is_new else Mode.HOLD)

    def _take_proposal(self, proposal: Proposal | None) -> tuple[bool, Reason | None]:
        """Keep the newest usable proposal; say whether this one is new, and what is wrong with it."""
        if proposal is None:
            return False, None
        finite = all(map(math.isfinite, (proposal.stamp_s, proposal.beta_rad, proposal.speed_mps)))
        if not finite or proposal.stamp_s > self._now_s + CLOCK_GRAIN_S:
            return False, Reason.PROPOSAL_INVALID
        if self._proposal is not None and proposal.stamp_s <= self._proposal.stamp_s:
            return False, None
        self._proposal = proposal
        return True, None

    def _fault_of(self, observation: Observation | None) -> Reason | None:
        if observation is None:
            return Reason.OBSERVATION_MISSING
        if flaw_of_observation(observation, self.vehicle) or observation.stamp_s > self._now_s + CLOCK_GRAIN_S:
            return Reason.OBSERVATION_INVALID
        if observation.stamp_s == self._seen_s:
            return Reason.OBSERVATION_MISSING
        if observation.stamp_s < self._seen_s:
            return Reason.OBSERVATION_OUT_OF_ORDER
        if self._now_s > observation.stamp_s + self.flight_s + CLOCK_GRAIN_S:
            return Reason.OBSERVATION_STALE
        return None

    def _without_observation(self, reason: Reason) -> Decision:
        """Repeat the stored pair while it holds, when news is only late; else run its backup."""
        stored = self._decision
        only_late = reason in (Reason.OBSERVATION_MISSING, Reason.OBSERVATION_STALE)
        if only_late and stored is not None and self._now_s < stored.hold_until_s:
            return self._repeat(stored, Mode.HOLD, reason)
        return self._back_up(reason)

    def _without_proposal(self, observation: Observation, reason: Reason) -> Decision:
        """Slow down on the held arc while that can be certified; else run the stored backup, or stay at rest."""
        last = self._decision
        held = None if last is None or last.mode is Mode.BACKUP else last.control
        if held is not None and self._proposal is not None:
            slow = Proposal(self._proposal.stamp_s, held.beta_rad, 0.0)
            return self._certify(observation, slow, Mode.HOLD, reason)
        if not self._stands(observation.state):
            return self._back_up(reason)
        if last is not None and last.reason is Reason.START_AT_REST and observation.applied_id in (0, last.id):
            return last
        return self._rest(observation) if observation.applied_id == 0 else self._back_up(reason)

    def _stands(self, state: State) -> bool:
        """Whether the measured speed agrees with standing; unmeasured, the vehicle's word for it counts."""
        return state.speed_mps is None or state.speed_mps <= self.vehicle.bounds.speed_mps + STANDING_MPS

    def _certify(self, observation: Observation, asked: Proposal, mode: Mode, reason: Reason | None = None) -> Decision:
        """Return the decision on a control asked for; `reason` stands in where nobody asked for it just now."""
        limit = self.vehicle.beta_max_rad
        beta = min(max(asked.beta_rad, -limit), limit)
        slips = self._slips_in_flight(observation)
        pair = self._nearest_pair(observation, beta, slips)
        shortfall_s = 0.0 if pair is not None and pair.beta_rad == beta else self._shortfall_s(observation, beta, slips)
        if pair is None:
            return self._back_up(Reason.NOTHING_CERTIFIED, asked.beta_rad, shortfall_s)
        if reason is None:
            reason = Reason.PROPOSAL_CERTIFIED if pair.beta_rad == asked.beta_rad else Reason.PROPOSAL_FILTERED
        gentle = self._gentlest(observation, pair, slips)
        return self._issue(observation, asked, gentle, slips, mode, reason, shortfall_s)

    def _nearest_pair(self, observation: Observation, beta_rad: float, slips: tuple[float, ...]) -> Pair | None:
        """Return the pair nearest to the slip angle asked for.

        First of all the angle asked for, if it leaves a way to steer past the obstacles, or braking is far from due.
        Then the nearest one that leaves a way to steer: a vehicle that only brakes ends up at rest in front of an
        obstacle, too close to turn. Then the nearest one that leaves a way to brake.
        """
        settings = self.settings
        long_s = max(settings.state_max_age_s, self.need_s)
        soon_s = min(max(settings.comfort_s, self.need_s), long_s)
        ladder = settings.ladder
        rungs = ladder.rungs(beta_rad, self.vehicle.beta_max_rad, slips)

        def steering(slip_rad: float, *holds_s: float) -> Pair | None:
            return self._pair(self._unbraked, observation, slip_rad, slips, holds_s)

        def any_way(slip_rad: float, *holds_s: float) -> Pair | None:
            return self._pair(self._dated, observation, slip_rad, slips, holds_s)

        return (
            steering(beta_rad, long_s, soon_s)
            or any_way(beta_rad, long_s)
            or nearest(beta_rad, rungs, ladder.halvings, lambda slip: steering(slip, soon_s))
            or nearest(beta_rad, rungs, ladder.halvings, lambda slip: any_way(slip, self.need_s))
        )

    def _gentlest(self, observation: Observation, pair: Pair, slips: tuple[float, ...]) -> Pair:
        """Return the same slip angle with the backup that disturbs least: stopping on the way, if need be sooner.

        Which angle to hold is judged by whether a way to steer is left; what takes over when nobody steers any more
        had better not spin the vehicle round. Near an obstacle it may: stopping there would leave no room to turn.
        """
        near = pair.hold_s < self.settings.state_max_age_s
        if near or pair.manoeuvre.braking or self.vehicle.deceleration_mps2 is None:
            return pair
        holds = [hold for hold in (pair.hold_s, 0.5 * pair.hold_s, 0.25 * pair.hold_s) if hold >= 1.5 * self.need_s]
        stopping = holds and self._pair(self._dated, observation, pair.beta_rad, slips, holds)
        return stopping if stopping and stopping.manoeuvre in STRAIGHT_STOPS else pair

    def _shortfall_s(self, observation: Observation, beta_rad: float, slips: tuple[float, ...]) -> float:
        """Return by how much the hold of a refused slip angle falls short of what a tick needs, to 1/16 of it [s]."""
        steps = [self.need_s * part / 16 for part in range(16, 0, -1)]
        pair = self._pair(self._dated, observation, beta_rad, slips, steps)
        return self.need_s - (0.0 if pair is None else pair.hold_s)

    def _slips_in_flight(self, observation: Observation) -> tuple[float, ...]:
        end_s = observation.stamp_s + self.flight_s + CLOCK_GRAIN_S
        if observation.applied_id == 0 and not self._stands(observation.state):
            return (-self.vehicle.beta_max_rad, self.vehicle.beta_max_rad)
        slips = self._log.possible_slips(observation.applied_id, observation.stamp_s - CLOCK_GRAIN_S, end_s)
        return tuple(dict.fromkeys((*slips, observation.state.beta_rad)))

    def _pair(
        self,
        vehicle: Vehicle,
        observation: Observation,
        beta_rad: float,
        slips_rad: tuple[float, ...],
        holds_s: Sequence[float],
    ) -> Pair | None:
        """Return what can be certified for `beta_rad` held from the observation on, behind the commands in flight."""
        state, discs = self._grown(observation, beta_rad, slips_rad)
        return certified_pair(vehicle, state, discs, holds_s)

    def _grown(
        self, observation: Observation, beta_rad: float, slips_rad: tuple[float, ...]
    ) -> tuple[State, tuple[Disc, ...]]:
        state = self._start(observation, beta_rad)
        flight_s = self.flight_s + CLOCK_GRAIN_S
        return state, grow_for_flight(self.vehicle, state, observation.obstacles, beta_rad, slips_rad, flight_s)

    def _start(self, observation: Observation, beta_rad: float) -> State:
        state = observation.state
        speed = state.speed_mps
        return State(state.x_m, state.y_m, state.heading_rad, beta_rad, None if speed is None else max(0.0, speed))

    def _issue(
        self,
        observation: Observation,
        asked: Proposal,
        pair: Pair,
        slips_rad: tuple[float, ...],
        mode: Mode,
        reason: Reason,
        shortfall_s: float,
    ) -> Decision:
        control = Control(pair.beta_rad, min(max(asked.speed_mps, 0.0), self.vehicle.v_max_mps))
        backup = backup_control(self.vehicle, pair.manoeuvre, control)
        intervened = pair.beta_rad != asked.beta_rad
        state, discs = self._grown(observation, pair.beta_rad, slips_rad)
        last = self._decision
        guess_s = math.inf if last is None else last.deadline_s - (observation.stamp_s - last.stamp_s)
        deadline_s, limited_by = quick_deadline(
            self._dated, state, discs, pair.hold_s, self.settings.cap_s, guess_s if guess_s > 0.0 else math.inf
        )
        decision = Decision(
            id=self._next_id(),
            stamp_s=observation.stamp_s,
            mode=mode,
            reason=reason,
            control=control,
            apply_by_s=observation.stamp_s + self.flight_s,
            hold_until_s=observation.stamp_s + pair.hold_s,
            backup=backup,
            backup_manoeuvre=pair.manoeuvre,
            deadline_s=deadline_s,
            barrier_deadline_s=self._barrier_deadline_s(observation, pair.beta_rad),
            limited_by=limited_by,
            intervened=intervened,
            proposed_beta_rad=asked.beta_rad,
            shortfall_s=shortfall_s,
            switch_time_s=self.vehicle.bounds.switch_time_s,
        )
        return self._remember(decision, (pair.beta_rad,), (backup.beta_rad,))

    def _barrier_deadline_s(self, observation: Observation, beta_rad: float) -> float | None:
        if not self.settings.report_barrier or self.vehicle.barrier is None:
            return None
        state = self._start(observation, beta_rad)
        discs = observation.obstacles
        return tolerable_deadline(Method.BARRIER, self._dated, state, discs, self.settings.cap_s).deadline_s

    def _rest(self, observation: Observation) -> Decision:
        decision = Decision(
            id=self._next_id(),
            stamp_s=observation.stamp_s,
            mode=Mode.HOLD,
            reason=Reason.START_AT_REST,
            control=AT_REST,
            apply_by_s=math.inf,
            hold_until_s=math.inf,
            backup=AT_REST,
            backup_manoeuvre=Manoeuvre.BRAKE,
            deadline_s=self.settings.cap_s,
            barrier_deadline_s=None,
            limited_by="rest",
            intervened=False,
            proposed_beta_rad=None,
            shortfall_s=0.0,
            switch_time_s=self.vehicle.bounds.switch_time_s,
        )
        return self._remember(decision, (0.0,), (0.0,))

    def _back_up(self, reason: Reason, asked_rad: float | None = None, shortfall_s: float = 0.0) -> Decision:
        """Tell the vehicle to run the backup it has stored, whichever of the last pairs that came with."""
        last = self._decision
        if last is None or last.mode is not Mode.BACKUP:
            seen_s = self._seen_s if math.isfinite(self._seen_s) else 0.0
            stored = AT_REST if last is None or last.backup is None else last.backup
            last = Decision(
                id=self._next_id(),
                stamp_s=seen_s,
                mode=Mode.BACKUP,
                reason=reason,
                control=stored,
                apply_by_s=math.inf,
                hold_until_s=seen_s,
                backup=stored,
                backup_manoeuvre=None if last is None else last.backup_manoeuvre,
                deadline_s=0.0,
                barrier_deadline_s=None,
                limited_by="backup",
                intervened=True,
                proposed_beta_rad=asked_rad,
                shortfall_s=shortfall_s,
                switch_time_s=self.vehicle.bounds.switch_time_s,
            )
            self._remember(last, (), self._log.possible_backups(self._applied_id, seen_s - CLOCK_GRAIN_S))
        self._decision = replace(last, reason=reason, proposed_beta_rad=asked_rad, shortfall_s=shortfall_s)
        return self._decision

    def _repeat(self, stored: Decision, mode: Mode, reason: Reason) -> Decision:
        """Answer with a decision made before, under its old id: the vehicle has it, or may still take it in time."""
        return replace(stored, mode=mode, reason=reason)

    def _remember(self, decision: Decision, held_rad: tuple[float, ...], backup_rad: tuple[float, ...]) -> Decision:
        ends_s = decision.hold_until_s if held_rad else -math.inf
        self._log.add(Issued(decision.id, held_rad, backup_rad, ends_s, decision.apply_by_s))
        self._last_id = decision.id
        self._decision = decision
        return decision

    def _next_id(self) -> int:
        """Ids rise, also past those of a guard that ran before this one."""
        return max(self._last_id, self._applied_id) + 1


def backup_control(vehicle: Vehicle, manoeuvre: Manoeuvre, held: Control) -> Control:
    """Return the control of a constant backup manoeuvre started while `held` is in effect.

    A circle or line that is clear for ever is clear at every speed, so the vehicle brakes on it as well where its
    brakes are declared, unless a declared grip leaves no room for braking in a turn.
    """
    can_brake = vehicle.deceleration_mps2 is not None and vehicle.bounds.lateral_accel_mps2 is None
    brake = manoeuvre.braking or can_brake
    return Control(backup_slip_rad(vehicle, manoeuvre, held.beta_rad), 0.0 if brake else held.speed_mps, brake)
