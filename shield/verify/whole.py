"""Deadlines proved for every state of a cell (r, xi, beta), not for single ones.

Seen from the body, the disc's centre is after s metres of the held arc at

    e = -r u(xi - k s) - s sinc(k s/2) u(beta - k s/2),   u(a) = (cos a, sin a),   k = sin(beta)/l_r.

The deadline ends at the first s with F(e) < 0. For `barrier` F is h. For `backup` (one static disc of radius R, no
brakes, no declared error) it is F = min(|e| - R, max_j f_j(e)), f_j >= 0 being the ways in which some manoeuvre is
clear: the turning circle of either side passes outside or inside the disc, the disc lies beside the straight line, or
behind one of the three lines across it. Every f_j is a distance, so it changes by no more than e does.

Evaluating F on a box cannot show F >= 0 up to a deadline that is exact. What is shown instead, for all states of a
cell at once, is a chain of pieces of the arc, each of one of four kinds:

    clear     F > 0 at every state on all of the piece, by |F(e) - F(e_c)| <= |e - e_c| about the centre state e_c
    rising    (at the start only) every f_j that may be >= 0 strictly increases: whoever starts with F >= 0 keeps it
    falling   every f_j that may be >= 0 strictly decreases, and |e| - R too unless it is > 0: whoever has F >= 0 at one
              place of the piece had it at all places before, however many manoeuvres take over from one another; where
              one manoeuvre is clear at every state, only |e| - R has to fall (or rise)
    blocked   F < 0 at every state: the end of the chain; the cap, or a whole turn of the arc, is the other end

Then at every state of the cell the deadline is the one sign change of F, which lies in a falling piece (or there is
none before the cap), and nothing else ends or prolongs it. That is proved of the closed form. The code evaluates that
form in floating point, with discs `MARGIN_M` larger: the residual of its root is that of a backward stable quadratic,
below 1e-11 m on the domain, so its root comes before the true one. This last step is an argument, and it is put to the
test at the centre of every proved leaf where the chain is not clear up to the cap (there no deadline is too long): F
must be >= 0 at the code's hold, which must not reach past the chain's end.
A cell whose chain breaks is halved; what is left at the floor (grazing passes, starts where the status changes) is
counted as open.

Enclosures are a centre value and a radius in double precision, for thousands of cells at a time. Every comparison is
demanded to hold by `SLACK_M`, which is more than the code's margin and the rounding that the claim `rounding` allows
together, so that the chain stands for the disc as the code takes it too; radii are taken larger by `INFLATE`, far
more than rounding can take from them.

With half widths d of the cell, k' = cos(beta)/l, and s = q k_c/k (so that q = s at the centre) where the arc is bent
enough for that to be tighter,

    |e - e_c| <= sqrt(d_r^2 + r r_c (d_xi + s d_k)^2) + s d_beta (max |1 - k' s/2| + k' s/4)          in s
    |e - e_c| <= sqrt(d_r^2 + r r_c d_xi^2) + 2 l |sin(k_c q/2)| d_beta/min sin(beta)^2               in q
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shield.deadline import Deadline, Method
from shield.state import State
from shield.vehicle import Bounds, Vehicle
from shield.verify.event import INFLATE, SLACK_M, Array, Event, Mask

STEPS = 400
"""Pieces after which a chain is given up."""


def followed(vehicle: Vehicle) -> bool:
    """Return whether the proof follows a vehicle: no brakes, no declared error or delay, a barrier."""
    return vehicle.barrier is not None and vehicle.deceleration_mps2 is None and vehicle.bounds == Bounds()


@dataclass(frozen=True, slots=True)
class Boxes:
    """Many cells: centres and half widths, one column each, shape (n,), in m and rad."""

    r: Array
    xi: Array
    beta: Array
    dr: Array
    dxi: Array
    dbeta: Array

    def __len__(self) -> int:
        return self.r.size

    def take(self, which: Mask | npt.NDArray[np.intp]) -> "Boxes":
        """Return some of the cells."""
        return Boxes(*(getattr(self, name)[which] for name in self.__slots__))

    def volume(self) -> Array:
        """Return d_r d_xi d_beta times eight [m rad^2]."""
        return 8.0 * self.dr * self.dxi * self.dbeta


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of many cells.

    Args:
        proved: The chain holds for the whole cell.
        last_m: Where the chain ends, as an arc length at the centre state [m]; no deadline there is longer.
        until_cap: It ends at the cap or after a whole turn.
        free: And every piece of it is clear, so that no deadline up to the cap is too long.
    """

    proved: Mask
    last_m: Array
    until_cap: Mask
    free: Mask


@dataclass(frozen=True, slots=True)
class Ring:
    """What became of the cells of one ring.

    Args:
        leaves: Boxes looked at, halves included.
        states: Centres of proved leaves with an end at which the code's deadline was compared.
        volume: Volume proved [m rad^2].
        open_cells: Indices of the cells that hold a leaf that is not proved.
        contradiction: Centre (r, xi, beta) at which the code's deadline is too long, or None.
    """

    leaves: int
    states: int
    volume: float
    open_cells: list[int]
    contradiction: tuple[float, float, float] | None


class _Chains:
    """The chains of many cells, walked together."""

    def __init__(self, vehicle: Vehicle, method: Method, boxes: Boxes, cap_m: float) -> None:
        self.event = Event(vehicle, method)
        self.l_r, self.boxes = vehicle.l_r_m, boxes
        b, l_r = boxes, vehicle.l_r_m
        self.kappa = np.sin(b.beta) / l_r
        low = np.abs(b.beta) - b.dbeta
        self.least_sine = np.sin(np.maximum(low, 0.0))
        high = np.minimum(np.abs(b.beta) + b.dbeta, 0.5 * math.pi)
        self.steepest = np.cos(np.maximum(low, 0.0)) / l_r
        self.shallowest = np.cos(high) / l_r
        inverse = 1.0 / np.maximum(self.least_sine, 1e-9)
        self.by_turn = (low > 0.0) & (inverse < 1.5 * b.r * np.cos(b.beta) / l_r + 1.0)
        size = np.maximum(np.abs(self.kappa), 1e-12)
        least, most = self.least_sine / l_r, np.sin(high) / l_r
        # ds/dq at most, and how far q has to go so that every state has reached the cap or gone round once
        self.stretch = np.where(self.by_turn, size / np.maximum(least, 1e-12), 1.0) * INFLATE
        round_s = 2.0 * math.pi / np.maximum(least, 1e-12)
        self.end = np.where(
            self.by_turn,
            np.minimum(cap_m * most / size, 2.0 * math.pi / size),
            np.minimum(cap_m, round_s),
        ) * INFLATE + SLACK_M  # fmt: skip
        self.most_kappa = most

    def seen(self, which: npt.NDArray[np.intp], q: Array) -> tuple[Array, Array, Array]:
        """Return e_c and |e - e_c| at most, at q of the cells `which`."""
        b, kappa = self.boxes.take(which), self.kappa[which]
        x, y = body_point(b.r, b.xi, b.beta, kappa, q)
        turned = np.where(self.by_turn[which], 0.0, q * b.dbeta * self.steepest[which])
        place = np.sqrt(b.dr**2 + (b.r + b.dr) * b.r * (b.dxi + turned) ** 2)
        first, second = self.steepest[which], self.shallowest[which]
        bent = np.maximum(np.abs(1.0 - 0.5 * first * q), np.abs(1.0 - 0.5 * second * q)) + 0.25 * first * q
        straight = q * b.dbeta * bent
        least = np.maximum(self.least_sine[which], 1e-9)
        round_ = 2.0 * self.l_r * np.abs(np.sin(0.5 * kappa * q)) * b.dbeta / least**2
        return x, y, (place + np.where(self.by_turn[which], round_, straight)) * INFLATE

    def walk(self) -> Verdicts:
        """Walk every chain to its end or to where it breaks."""
        n = len(self.boxes)
        q, proved, until_cap = np.zeros(n), np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        rising, free = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
        active = np.arange(n)
        for _ in range(STEPS):
            if active.size == 0:
                break
            at = q[active]
            x, y, eps = self.seen(active, at)
            ahead, behind = self.event.level(x, y, eps)
            blocked = behind > 0.0
            proved[active[blocked]] = True
            # the fastest that e moves per metre of q while it stays within `reach` of here
            reach = np.maximum(ahead, 0.0) + eps + 1e-3
            pace = (1.0 + self.most_kappa[active] * (np.hypot(x, y) + eps + reach)) * self.stretch[active] * INFLATE
            grain = 0.7 * (eps + 1e-3) / pace
            clear = ahead > 0.0
            step = np.where(clear, ahead / pace, 0.0)
            # near an end, or uncertain: a piece on which F rises or falls
            near = ~blocked & (step < grain)
            if near.any():
                pick = np.nonzero(near)[0]
                half = 0.5 * grain[pick]
                xm, ym, em = self.seen(active[pick], at[pick] + half)
                # within the piece every state's e is within this of the piece's middle
                em = em + half * pace[pick]
                beta, dbeta = self.boxes.beta[active[pick]], self.boxes.dbeta[active[pick]]
                falls, rises = self.event.slopes(xm, ym, em, beta, dbeta)
                rises &= rising[active[pick]]
                good = falls | rises
                step[pick] = np.where(good, grain[pick], step[pick])
                rising[active[pick]] = np.where(good, rises & ~falls, False)
                free[active[pick[good]]] = False
            far = ~near & ~blocked
            rising[active[far]] = False
            q[active] = at + np.where(blocked, 0.0, step)
            done = ~blocked & (q[active] >= self.end[active])
            proved[active[done]] = True
            until_cap[active[done]] = True
            stuck = ~blocked & (step < 0.02 * grain)
            active = active[~(blocked | done | stuck)]
        return Verdicts(proved, q, until_cap, until_cap & free)


def body_point(r: Array, xi: Array, beta: Array, kappa: Array, s: Array) -> tuple[Array, Array]:
    """Return the disc's centre in the body frame after `s` metres of the held arc [m]."""
    half = 0.5 * kappa * s
    chord = s * np.sinc(half / math.pi)
    turned = xi - 2.0 * half
    return -r * np.cos(turned) - chord * np.cos(beta - half), -r * np.sin(turned) - chord * np.sin(beta - half)


def prove_cells(vehicle: Vehicle, method: Method, boxes: Boxes, cap_m: float) -> Verdicts:
    """Decide for each cell whether one chain of pieces holds for all of its states."""
    return _Chains(vehicle, method, boxes, cap_m).walk()


def prove_ring(
    vehicle: Vehicle, method: Method, cells: Boxes, cap_m: float, floor: float, ask: Callable[[State], Deadline]
) -> Ring:
    """Prove cells whole, halving those whose chain breaks, and ask the code at the centres of proved leaves.

    Args:
        vehicle: One that `followed` accepts.
        method: `BARRIER` or `BACKUP`.
        cells: The cells.
        cap_m: Distance up to which deadlines are asked for [m].
        floor: Volume [m rad^2] below which a leaf is not halved any more.
        ask: The code's deadline of a state, the disc of radius r_bar standing at the origin.
    """
    event = Event(vehicle, method)
    owner, boxes = np.arange(len(cells)), cells
    proved_volume = np.zeros(len(cells))
    open_cells = np.zeros(len(cells), dtype=bool)
    leaves = states = 0
    while len(boxes):
        verdicts = prove_cells(vehicle, method, boxes, cap_m)
        leaves += len(boxes)
        done = verdicts.proved
        np.add.at(proved_volume, owner[done], boxes.volume()[done])
        ends = done & ~verdicts.free
        wrong = _contradicted(vehicle, event, boxes.take(ends), verdicts.last_m[ends], verdicts.until_cap[ends], ask)
        states += int(ends.sum())
        if wrong is not None:
            return Ring(leaves, states, float(proved_volume.sum()), [], wrong)
        small = ~done & (boxes.volume() < 2.0 * floor)
        open_cells[owner[small]] = True
        again = ~done & ~small
        boxes, owner = halved(boxes.take(again), vehicle.l_r_m), np.tile(owner[again], 2)
    return Ring(leaves, states, float(proved_volume.sum()), np.nonzero(open_cells)[0].tolist(), None)


def _contradicted(
    vehicle: Vehicle, event: Event, boxes: Boxes, last_m: Array, until_cap: Mask, ask: Callable[[State], Deadline]
) -> tuple[float, float, float] | None:
    """Return a centre (r, xi, beta) at which the code's deadline reaches past the sign change of F, or None."""
    holds = np.zeros(len(boxes))
    for index, (r, xi, beta) in enumerate(zip(boxes.r.tolist(), boxes.xi.tolist(), boxes.beta.tolist(), strict=True)):
        found = ask(State(r * math.cos(xi), r * math.sin(xi), 0.0, beta))
        holds[index] = found.deadline_s * vehicle.v_max_mps
    x, y = body_point(boxes.r, boxes.xi, boxes.beta, np.sin(boxes.beta) / vehicle.l_r_m, holds)
    wrong = (holds > 0.0) & ((event.value(x, y) < 0.0) | (~until_cap & (holds > last_m)))
    if not wrong.any():
        return None
    first = int(wrong.argmax())
    return float(boxes.r[first]), float(boxes.xi[first]), float(boxes.beta[first])


def halved(boxes: Boxes, l_r: float) -> Boxes:
    """Return both halves of every cell, cut across the side that moves e most: first all lower ones, then all upper."""
    bend = np.minimum(1.5 * boxes.r**2 / l_r, boxes.r / np.maximum(np.abs(np.sin(boxes.beta)), 1e-3))
    side = np.stack([boxes.dr, boxes.r * boxes.dxi, boxes.dbeta * bend]).argmax(axis=0)
    widths = [np.where(side == i, 0.5 * half, half) for i, half in enumerate((boxes.dr, boxes.dxi, boxes.dbeta))]
    centres = (boxes.r, boxes.xi, boxes.beta)
    # Widths a grain larger, so that rounded centres leave no gap between the halves.
    grown = [np.tile(width, 2) * (1.0 + 1e-14) for width in widths]
    moved = [
        np.concatenate([centre - (side == i) * widths[i], centre + (side == i) * widths[i]])
        for i, centre in enumerate(centres)
    ]
    return Boxes(*moved, *grown)
