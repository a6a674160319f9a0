"""Give freed memory back to the operating system.

Reading, checking and merging a model passes through several copies of its weights. glibc keeps what was freed for
later, which on a board is memory that nobody else can use.

Reference: mallopt(3). glibc raises the size above which a block gets a mapping of its own whenever such a block is
freed; from then on weights come from the heap, whose holes can't be given back.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MIB = 2**20


def release_freed() -> None:
    """Return the freed memory of this process to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc has it
        trim(0)


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Meanwhile, give every block of 1 MiB and more a mapping that vanishes when it is freed, where the C library can.

    Afterwards the limits are the highest that glibc itself arrives at, so that running reuses what it frees.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # not glibc
        yield
        return
    mallopt(_MMAP_THRESHOLD, _MIB)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, 32 * _MIB)
        mallopt(_TRIM_THRESHOLD, 64 * _MIB)
