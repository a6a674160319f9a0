"""What a process may ask of the kernel to be on time, and what it was given.

A guard asks for everything: no garbage collector, memory locked, the first-in-first-out scheduler. Each is a request;
what was refused stands in the returned record and so in the guard's status. Threads that infer step back instead, and
the one that carries a daemon's messages asks to be run at once, below every guard.

Reference: sched_setattr(2): for SCHED_OTHER, Linux 6.12 and later take `sched_runtime` as the slice; mallopt(3).
"""

import ctypes
import gc
import os
import platform
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
_MCL_CURRENT_AND_FUTURE = 1 | 2
_SHORT_SLICE_NS = 100_000
_FIFO_PRIORITY = 50
_MESSENGER_PRIORITY = 1
_INFERENCE_NICENESS = 10
_CALM_AFTER_S = 1.0
_RESET_ON_FORK = 1
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_HEAP_BYTES = 8 << 20
_ALLOWED = os.sched_getaffinity(0)
_libc = ctypes.CDLL(None, use_errno=True)


class _SchedAttr(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("sched_policy", ctypes.c_uint32),
        ("sched_flags", ctypes.c_uint64),
        ("sched_nice", ctypes.c_int32),
        ("sched_priority", ctypes.c_uint32),
        ("sched_runtime", ctypes.c_uint64),
        ("sched_deadline", ctypes.c_uint64),
        ("sched_period", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True)
class RealTime:
    """What the kernel granted: each field is "yes" or the reason it was refused."""

    fifo: str
    memory_locked: str
    short_slice: str
    gc_frozen: str = "yes"
    heap_kept: str = "not asked for"


def become_punctual(*, fifo: bool = True) -> RealTime:
    """Freeze the garbage collector, take and lock memory, and ask for a scheduler that runs this thread at once.

    ZeroMQ's own threads, which carry every message in and out, are asked for too: call this once the sockets are
    open. Threads and processes started later begin without.

    Args:
        fifo: Whether to ask for SCHED_FIFO; without it only the short slice is asked for.
    Returns:
        What was granted, and for the rest the reason it was not.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    kept = _heap_kept()
    locked = _memory_locked()
    threads = [0, *_zeromq_threads()]
    sliced = _worst(_short_slice(thread) for thread in threads)
    granted = _worst(_fifo(thread) for thread in threads) if fifo else "not asked for"
    return RealTime(fifo=granted, memory_locked=locked, short_slice=sliced, heap_kept=kept)


def answer_promptly() -> None:
    """Ask that the calling thread and ZeroMQ's are run as soon as a message or a finished answer waits.

    The lowest real-time priorities, or where those are refused the short slice; threads and processes started later
    begin without. `Promptness` does so only while it matters.
    """
    Promptness((0,), _zeromq_threads()).urgent()


class Promptness:
    """Has the threads that carry messages run at once while devices owe answers, and like any others when they don't.

    An answer that was ready in time would else wait behind busy neighbours. But at a real-time priority these threads
    also keep the client's from the core on which they woke them: a request that is answered on the spot is quicker
    without.

    Args:
        threads: Threads that take and hand over messages; 0: the calling one.
        carriers: Threads that bring them in and out, ZeroMQ's; None: those of now. They go first, so that a reply is
            not kept back by what there is to do once it is handed over.
    """

    def __init__(self, threads: Iterable[int] = (0,), carriers: Iterable[int] | None = None) -> None:
        brings = _zeromq_threads() if carriers is None else carriers
        self._threads = [
            *((thread, _MESSENGER_PRIORITY) for thread in threads),
            *((thread, _MESSENGER_PRIORITY + 1) for thread in brings),
        ]
        self._urgent = False
        self._calm_s = 0.0

    def attend(self, busy: bool, now_s: float) -> None:
        """Be told, at every turn, whether devices owe answers, at `now_s` [s]; for a second after they still might."""
        if busy:
            self._calm_s = now_s + _CALM_AFTER_S
            if not self._urgent:
                self.urgent()
        elif self._urgent and now_s >= self._calm_s:
            self.calm()

    def urgent(self) -> None:
        """Ask for the lowest real-time priorities, below every guard, or where that is refused for the short slice."""
        self._urgent = True
        for thread, priority in self._threads:
            if _fifo(thread, priority) != "yes":
                _short_slice(thread)

    def calm(self) -> None:
        """Ask for the usual scheduler, with the short slice where the kernel has one."""
        self._urgent = False
        for thread, _ in self._threads:
            if _short_slice(thread) != "yes":
                os.sched_setscheduler(thread, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def messenger_core(taken: Iterable[int]) -> int | None:
    """Return the core for the thread that carries messages and ZeroMQ's: the last one that no device is pinned to.

    None where this process has but one core, or devices have them all.
    """
    free = sorted(_ALLOWED - set(taken))
    return free[-1] if len(_ALLOWED) > 1 and free else None


def keep_together(core: int) -> None:
    """Pin the calling thread and ZeroMQ's to one core.

    They hand every message to one another: on one core its data stays in the cache, and nobody waits for another core
    to wake up. Threads and processes that the calling thread starts later would be pinned too: see `at_large`.
    """
    for thread in (0, *_zeromq_threads()):
        os.sched_setaffinity(thread, {core})


@contextmanager
def at_large() -> Iterator[None]:
    """Let the calling thread run on every core of the process meanwhile, and what it starts there for good."""
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _ALLOWED)
    try:
        yield
    finally:
        os.sched_setaffinity(0, pinned)


def step_back() -> None:
    """Lower the calling thread, and those it starts, below the guard: niceness 10, as all that infers does."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness < _INFERENCE_NICENESS:
        os.setpriority(os.PRIO_PROCESS, 0, _INFERENCE_NICENESS)


def raise_file_limit() -> int:
    """Raise the soft limit on open files to the hard one, and return it: each client of a ROUTER needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _worst(answers: Iterable[str]) -> str:
    return next((answer for answer in answers if answer != "yes"), "yes")


def _zeromq_threads() -> list[int]:
    tasks = Path("/proc/self/task")
    return [int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().startswith("ZMQbg")]


def _heap_kept() -> str:
    """Take memory for what is to come once, and never give any back, so that no allocation has to ask the kernel."""
    try:
        mallopt = _libc.mallopt
    except AttributeError:
        return "this C library has no mallopt"
    if not (mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_MMAP_MAX, 0)):
        return "mallopt refused"
    _libc.malloc.restype, _libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    _libc.free.restype, _libc.free.argtypes = None, (ctypes.c_void_p,)
    heap = _libc.malloc(_HEAP_BYTES)
    if heap is None:
        return "there is no memory left"
    ctypes.memset(heap, 0, _HEAP_BYTES)
    _libc.free(heap)
    return "yes"


def _memory_locked() -> str:
    if _libc.mlockall(_MCL_CURRENT_AND_FUTURE) == 0:
        return "yes"
    return _errno_text()


def _short_slice(thread: int) -> str:
    """Ask for a short slice, and read it back: a kernel that knows of none takes the call all the same."""
    machine = platform.machine()
    if machine not in _SCHED_SETATTR:
        return f"sched_setattr's number is not known for {machine}"
    flags = _RESET_ON_FORK if os.sched_getscheduler(thread) & os.SCHED_RESET_ON_FORK else 0  # not ours to take back
    attributes = _SchedAttr(size=ctypes.sizeof(_SchedAttr), sched_flags=flags, sched_runtime=_SHORT_SLICE_NS)
    attributes.sched_nice = os.getpriority(os.PRIO_PROCESS, 0)
    if _libc.syscall(_SCHED_SETATTR[machine], thread, ctypes.byref(attributes), 0) != 0:
        return _errno_text()
    granted = _SchedAttr()
    if _libc.syscall(_SCHED_GETATTR[machine], thread, ctypes.byref(granted), ctypes.sizeof(granted), 0) != 0:
        return _errno_text()
    if granted.sched_policy == os.SCHED_OTHER and granted.sched_runtime != _SHORT_SLICE_NS:
        return f"Linux {platform.release()} has none: 6.12 has"
    return "yes"


def _fifo(thread: int, priority: int = _FIFO_PRIORITY) -> str:
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError as error:
        return error.strerror or str(error)
    return "yes"


def _errno_text() -> str:
    return os.strerror(ctypes.get_errno())
