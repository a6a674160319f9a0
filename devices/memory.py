"""Give freed memory back to the operating system.

Reading, checking and merging a model passes through several copies of its weights. glibc keeps what was freed for
later, which on a board is memory that nobody else can use.
"""

import ctypes


def release_freed() -> None:
    """Return the freed memory of this process to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc has it
        trim(0)
