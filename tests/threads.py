"""Watching threads in tests."""

import threading
import time


def wait_until_computing(ident: int, cpu_s: float = 0.05) -> None:
    """Return once a thread has used `cpu_s` [s] of processor time from now on, so that it is amid its work for sure."""
    clock = time.pthread_getcpuclockid(ident)
    began_s = time.clock_gettime(clock)
    pause = threading.Event()
    while time.clock_gettime(clock) < began_s + cpu_s:
        pause.wait(0.001)
