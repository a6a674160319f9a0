"""Falsification of deadlines: draw a situation, ask for its deadline, and try to make the certificate fail.

Every answer is attacked by trajectories that switch within it, most of them at its very end, with the speed profile,
the steering error, the measurement error, the delay and the obstacles' motion drawn from what the bounds allow, their
worst ends as often as their middle. Half of the situations are drawn at random, half near those that came closest to
contact.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from shield.deadline import Deadline, Method, tolerable_deadline
from shield.falsify.trajectories import DELAY_STEPS, HOLD_STEPS, STEPS, Array, Trajectories, least_clearance
from shield.manoeuvre import Manoeuvre, backup_slip_rad, grip_slip_rad
from shield.state import Disc, State
from shield.vehicle import Vehicle

Ask = Callable[[Vehicle, State, Sequence[Disc], float], Deadline]

CONTACT_GRAIN_M = 1e-6
"""An obstacle entered by less than this is touched by the rounding of the simulation alone [m]."""

MOST_DISCS = 4
SITUATIONS, ATTACKS = 64, 64
"""Situations drawn together, and trajectories tried on each."""

CLOSEST_KEPT = 32


@dataclass(frozen=True, slots=True)
class Situation:
    """What a deadline was asked for: the pose is the origin, the heading +x."""

    beta_rad: float
    speed_mps: float | None
    obstacles: tuple[Disc, ...]


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A trajectory within the bounds that touches an obstacle although its deadline said otherwise.

    Args:
        situation: What was asked.
        deadline_s: What was answered [s].
        manoeuvre: Backup manoeuvre carried out.
        hold_s, delay_s: When it was due and how late it took effect [s].
        depth_m: How far the vehicle enters the obstacle [m].
    """

    situation: Situation
    deadline_s: float
    manoeuvre: Manoeuvre
    hold_s: float
    delay_s: float
    depth_m: float


@dataclass(slots=True)
class Report:
    """What a search found.

    Args:
        states: Simulated vehicle states.
        situations: Deadlines asked for.
        attacked: Those above zero, which were attacked.
        least_clearance_m: Closest any trajectory came to an obstacle [m].
        counterexamples: The deepest first, at most 16.
        seconds: Time taken [s].
    """

    states: int = 0
    situations: int = 0
    attacked: int = 0
    least_clearance_m: float = math.inf
    counterexamples: list[Counterexample] = field(default_factory=list)
    seconds: float = 0.0


def backup_deadline_of(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float) -> Deadline:
    """Return the deadline that is attacked unless another is given."""
    return tolerable_deadline(Method.BACKUP, vehicle, state, obstacles, cap_s)


def falsify_deadlines(
    vehicle: Vehicle,
    states: int,
    seed: int = 0,
    *,
    ask: Ask = backup_deadline_of,
    cap_s: float = 2.0,
    moving: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Try to break the `backup` deadline of a vehicle by simulation.

    Args:
        vehicle: Vehicle with its declared bounds.
        states: How many vehicle states to simulate, at least.
        seed: Of every draw.
        ask: The deadline to break; a faulty one can be put in.
        cap_s: Longest deadline asked about [s].
        moving: Whether obstacles may move, where the vehicle has the brakes that this asks for.
        progress: Called with the number of states simulated so far.
    """
    begun = time.monotonic()
    rng = np.random.default_rng(seed)
    report = Report()
    closest: list[tuple[float, Situation]] = []
    while report.states < states:
        situations = [_draw(vehicle, rng, closest, moving) for _ in range(SITUATIONS)]
        answers = [ask(vehicle, _state_of(item), item.obstacles, cap_s) for item in situations]
        report.situations += len(situations)
        asked = [pair for pair in zip(situations, answers, strict=True) if pair[1].certificate.intervals]
        report.attacked += len(asked)
        if asked:
            _attack(vehicle, rng, asked, report, closest)
        elif report.attacked == 0 and report.situations > 100 * SITUATIONS:
            break
        if progress is not None:
            progress(report.states)
    report.counterexamples.sort(key=lambda item: -item.depth_m)
    del report.counterexamples[16:]
    report.seconds = time.monotonic() - begun
    return report


def _state_of(situation: Situation) -> State:
    return State(0.0, 0.0, 0.0, situation.beta_rad, situation.speed_mps)


def _draw(
    vehicle: Vehicle, rng: np.random.Generator, closest: list[tuple[float, Situation]], moving: bool
) -> Situation:
    if closest and rng.random() < 0.5:
        return _near(vehicle, rng, closest[int(rng.integers(len(closest)))][1])
    limit = grip_slip_rad(vehicle)
    beta = float(rng.choice([0.0, -limit, limit, *rng.uniform(-limit, limit, 5)]))
    speed = float(rng.uniform(0.0, vehicle.v_max_mps)) if rng.random() < 0.7 else None
    moving = moving and vehicle.deceleration_mps2 is not None and rng.random() < 0.3
    discs = []
    for _ in range(int(rng.integers(1, MOST_DISCS + 1))):
        radius = float(rng.uniform(0.2, 5.0))
        gap = float(rng.exponential(0.6 * vehicle.v_max_mps)) + vehicle.radius_m + vehicle.bounds.position_m
        bearing = beta + float(rng.choice([rng.normal(0.0, 0.6), rng.uniform(-math.pi, math.pi)]))
        top = float(rng.uniform(0.0, 0.3) * vehicle.v_max_mps) if moving else 0.0
        discs.append(Disc((radius + gap) * math.cos(bearing), (radius + gap) * math.sin(bearing), radius, top))
    return Situation(beta, speed, tuple(discs))


def _near(vehicle: Vehicle, rng: np.random.Generator, situation: Situation) -> Situation:
    """Return a situation a little off one that came close to contact."""
    scale = float(10.0 ** rng.uniform(-4.0, 0.0))
    limit = grip_slip_rad(vehicle)
    beta = float(np.clip(situation.beta_rad + 0.2 * scale * rng.normal(), -limit, limit))
    discs = tuple(
        Disc(
            disc.x_m + scale * float(rng.normal()),
            disc.y_m + scale * float(rng.normal()),
            max(0.05, disc.radius_m + scale * float(rng.normal())),
            disc.speed_max_mps,
        )
        for disc in situation.obstacles
    )
    return Situation(beta, situation.speed_mps, discs)


def _attack(
    vehicle: Vehicle,
    rng: np.random.Generator,
    asked: list[tuple[Situation, Deadline]],
    report: Report,
    closest: list[tuple[float, Situation]],
) -> None:
    runs, manoeuvres = _plan(vehicle, rng, asked)
    clearance = least_clearance(vehicle, runs)
    report.states += clearance.size * STEPS
    report.least_clearance_m = min(report.least_clearance_m, float(clearance.min()))
    per_situation = clearance.reshape(len(asked), ATTACKS)
    for index, (situation, answer) in enumerate(asked):
        worst = int(per_situation[index].argmin())
        gap = float(per_situation[index, worst])
        closest.append((gap, situation))
        if gap < -CONTACT_GRAIN_M:
            row = index * ATTACKS + worst
            found = Counterexample(
                situation, answer.deadline_s, manoeuvres[row], float(runs.hold_s[row]), float(runs.delay_s[row]), -gap
            )
            report.counterexamples.append(found)
    closest.sort(key=lambda item: item[0])
    del closest[CLOSEST_KEPT:]


def _plan(
    vehicle: Vehicle, rng: np.random.Generator, asked: list[tuple[Situation, Deadline]]
) -> tuple[Trajectories, list[Manoeuvre]]:
    """Draw the attacks on every answer, and let the certificate name the manoeuvre for each."""
    bounds, count = vehicle.bounds, len(asked) * ATTACKS
    single = rng.random(count) < 0.4
    last_s = np.repeat([answer.deadline_s for _, answer in asked], ATTACKS)
    until_s = np.repeat([answer.certificate.single_until_s for _, answer in asked], ATTACKS)
    due_s = np.where(single, until_s, last_s) * _edges(rng, count, low=False)
    hold_s = due_s + bounds.sensing_age_s * _edges(rng, count)
    runs = _runs(vehicle, rng, [situation for situation, _ in asked], hold_s)
    # The certificate is read at the place reached when the switch is due, so the holds are driven once to know it.
    held_m = _way_held(vehicle, runs)
    seen_m = np.maximum(0.0, held_m + bounds.position_m * rng.uniform(-1.0, 1.0, count))
    manoeuvres = []
    for row in range(count):
        certificate = asked[row // ATTACKS][1].certificate
        chosen = certificate.single if single[row] else None
        if chosen is None:
            fitting = [item.manoeuvre for item in certificate.intervals if item.start_m <= seen_m[row] <= item.end_m]
            chosen = fitting[int(rng.integers(len(fitting)))] if fitting else certificate.intervals[-1].manoeuvre
        manoeuvres.append(chosen)
    runs.backup_rad = np.array([backup_slip_rad(vehicle, m, b) for m, b in zip(manoeuvres, runs.beta_rad, strict=True)])
    runs.straightens = np.array([not m.constant for m in manoeuvres])
    runs.brakes = np.array([m.braking for m in manoeuvres])
    return runs, manoeuvres


def _edges(rng: np.random.Generator, count: int, *, low: bool = True) -> Array:
    """Draw from [0, 1], the upper end often, the lower one often if `low`."""
    drawn = rng.random(count)
    drawn[rng.random(count) < 0.5] = 1.0
    if low:
        drawn[rng.random(count) < 0.3] = 0.0
    return drawn


def _runs(vehicle: Vehicle, rng: np.random.Generator, situations: list[Situation], hold_s: Array) -> Trajectories:
    bounds, count = vehicle.bounds, hold_s.size
    table = np.full((len(situations), MOST_DISCS, 4), 0.0)
    for index, situation in enumerate(situations):
        for slot, disc in enumerate(situation.obstacles):
            comes_mps = max(disc.speed_max_mps, bounds.obstacle_speed_mps)
            table[index, slot] = disc.x_m, disc.y_m, disc.radius_m + vehicle.radius_m, comes_mps
    x, y, radius, pursuit = np.moveaxis(np.repeat(table, ATTACKS, axis=0), 2, 0)
    measured: Array = np.repeat([math.nan if s.speed_mps is None else s.speed_mps for s in situations], ATTACKS)
    off = bounds.speed_mps * rng.choice([-1.0, 0.0, 1.0, 1.0], count)
    anywhere = vehicle.v_max_mps * _edges(rng, count)
    speed: Array = np.where(np.isnan(measured), anywhere, np.clip(measured + off, 0.0, vehicle.v_max_mps))
    error_m = (bounds.position_m + bounds.odometry_drift * vehicle.v_max_mps * bounds.sensing_age_s) * _edges(
        rng, radius.size
    ).reshape(radius.shape)
    # Towards the start more often than anywhere.
    bearing = np.where(rng.random(radius.shape) < 0.5, np.arctan2(-y, -x), rng.uniform(-math.pi, math.pi, radius.shape))
    signs = rng.choice([-1.0, 1.0], count)
    return Trajectories(
        beta_rad=np.repeat([situation.beta_rad for situation in situations], ATTACKS),
        hold_s=hold_s,
        delay_s=bounds.switch_time_s * _edges(rng, count),
        backup_rad=np.zeros(count),
        straightens=np.zeros(count, dtype=bool),
        brakes=np.zeros(count, dtype=bool),
        heading_rad=bounds.heading_rad * signs * _edges(rng, count),
        speed_mps=speed,
        wish=_wishes(rng, count),
        error_rad=_steering_errors(vehicle, rng, count),
        x_m=x,
        y_m=y,
        shift_x_m=error_m * np.cos(bearing),
        shift_y_m=error_m * np.sin(bearing),
        radius_m=radius,
        spare_m=bounds.position_m,
        pursuit_mps=np.where(radius > 0.0, pursuit * _edges(rng, radius.size).reshape(radius.shape), 0.0),
    )


def _wishes(rng: np.random.Generator, count: int) -> Array:
    """Draw the speeds wished for: as fast as possible, crawling, crawling first, steady, or another at every step."""
    columns = HOLD_STEPS + DELAY_STEPS
    kind = rng.integers(0, 6, count)[:, None]
    steady = rng.random((count, 1))
    crawl = np.full((count, 1), 0.01)
    late = np.where(np.arange(columns)[None, :] < rng.integers(0, columns, (count, 1)), crawl, 1.0)
    wish = np.select(
        [kind <= 1, kind == 2, kind == 3, kind == 4],
        [np.ones((count, 1)), crawl, late, steady],
        rng.random((count, columns)),
    )
    return np.broadcast_to(wish, (count, columns)).copy()


def _steering_errors(vehicle: Vehicle, rng: np.random.Generator, count: int) -> Array:
    """Draw steering errors: constant at an end, changing sign once, or another at every step; plus a constant bias."""
    bounds = vehicle.bounds
    if bounds.steering_rad == 0.0 and bounds.steering_bias_rad == 0.0:
        return np.zeros((count, STEPS))
    sign = rng.choice([-1.0, 1.0], (count, 1))
    flips = np.where(np.arange(STEPS)[None, :] < rng.integers(0, STEPS, (count, 1)), sign, -sign)
    kind = rng.integers(0, 3, (count, 1))
    varying = np.select(
        [kind == 0, kind == 1], [sign + np.zeros((1, STEPS)), flips], rng.uniform(-1, 1, (count, STEPS))
    )
    return np.asarray(bounds.steering_rad * varying + bounds.steering_bias_rad * rng.choice([-1.0, 1.0], (count, 1)))


def _way_held(vehicle: Vehicle, runs: Trajectories) -> Array:
    """Return the way driven in the hold [m], by the speeds alone."""
    time_s = runs.hold_s / HOLD_STEPS
    speed, way = runs.speed_mps, np.zeros_like(runs.speed_mps)
    for column in range(HOLD_STEPS):
        wished = runs.wish[:, column] * vehicle.v_max_mps
        after = wished if vehicle.a_max_mps2 is None else np.minimum(wished, speed + vehicle.a_max_mps2 * time_s)
        way += 0.5 * (speed + after) * time_s
        speed = after
    return way
