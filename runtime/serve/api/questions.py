"""What a client may ask the shield: how long a slip angle may be held, and which one is admissible.

Answered on a thread of their own, since a hundred moving obstacles take milliseconds. These answers are advice: the
control that a vehicle applies is the guard's.
"""

from concurrent.futures import Future, ThreadPoolExecutor

from runtime.serve.api.messages import Admitted, Deadline, Filter, Tolerable
from runtime.serve.realtime import at_large
from shield.deadline import Method, tolerable_deadline
from shield.filter import filter_slip
from shield.state import Disc, State
from shield.vehicle import Vehicle


class Questions:
    """Answers questions about one vehicle.

    Args:
        vehicle: With its declared bounds.
    """

    def __init__(self, vehicle: Vehicle) -> None:
        self._vehicle = vehicle
        self._pool = ThreadPoolExecutor(1, "headway-shield")

    def ask(self, question: Deadline | Filter) -> "Future[Tolerable | Admitted]":
        """Answer a question; the future raises ValueError where the question makes no sense for this vehicle."""
        with at_large():  # the first question starts the thread
            return self._pool.submit(answer, self._vehicle, question)

    def close(self) -> None:
        """Answer no more."""
        self._pool.shutdown(cancel_futures=True)


def answer(vehicle: Vehicle, question: Deadline | Filter) -> Tolerable | Admitted:
    """Return the answer to a question.

    Raises:
        ValueError: a value is not finite or out of range, or the vehicle lacks the barrier that is needed.
    """
    state = State(question.x_m, question.y_m, question.heading_rad, question.beta_rad, question.speed_mps)
    discs = [Disc(*each) for each in question.obstacles]
    if isinstance(question, Filter):
        found = filter_slip(vehicle, state, discs, question.beta_rad, question.hold_s)
        return Admitted(
            id=question.id,
            status=found.status,
            beta_rad=found.beta_rad,
            limited_by=found.limited_by,
            intervals=[(low, high) for low, high in found.intervals],
        )
    method = Method(question.method)
    if method is not Method.BACKUP and vehicle.barrier is None:
        raise ValueError(f"method {question.method!r} needs a barrier, and vehicle {vehicle.name!r} declares none")
    held = tolerable_deadline(method, vehicle, state, discs, question.cap_s)
    return Tolerable(id=question.id, deadline_s=held.deadline_s, limited_by=held.limited_by, manoeuvre=held.manoeuvre)
