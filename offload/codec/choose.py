"""Which codec a tensor is sent with: the one that has it at the far side first, by what was measured on this link.

    T(c) = encode(c) + 8 bytes(c) / rate + decode(c),      T(none) = 8 bytes / rate

Every codec that is allowed and takes the tensor is tried on a real frame now and then, one at a time, so that a trial
never costs more than one encoding and one decoding. Decoding is timed here, in place of the server, whose processor is
seldom the slower one. A lossy codec is only allowed by name, and only while its declared (or, for images, measured)
error stays within what its user allows.
"""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from offload.codec.codecs import CODECS, Array, Encoded, available
from offload.errors import CodecError

_WEIGHT = 0.25
_GAIN = 0.95  # a codec must save a twentieth to be preferred: figures waver
_KEPT = 64


@dataclass(slots=True)
class _Trial:
    """What a codec came to on one kind of tensor: encoding and decoding [s], size [B], error."""

    seconds: float
    size: float
    error: float


class CodecChooser:
    """Chooses for each tensor of one client.

    Args:
        allowed: Names of the codecs that may be used.
        rate_bps: Returns the present estimate of the uplink's rate [bit/s]; infinite or 0 while it is not known.
        most_error: Largest absolute error that a lossy codec may make, in the tensor's own unit.
        every: A trial is made each so many tensors of a kind.
        timer: Passed in for tests [s].
    Raises:
        CodecError: a codec is unknown or not installed, or a value impossible.
    """

    def __init__(
        self,
        allowed: Collection[str],
        rate_bps: Callable[[], float],
        *,
        most_error: float = math.inf,
        every: int = 32,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        there = available()
        for name in allowed:
            if name not in there:
                raise CodecError(
                    f"codec {name!r} cannot be had here: there are {', '.join(there)}; zstd: headway[codecs]"
                )
        if not most_error >= 0.0 or every < 1:
            raise CodecError(f"most_error = {most_error!r}, every = {every}: must not be negative, and at least 1")
        self._allowed = [name for name in CODECS if name in allowed]
        self._rate_bps = rate_bps
        self._most_error = most_error
        self._every = every
        self._timer = timer
        self._trials: dict[tuple[str, str, tuple[int, ...]], dict[str, _Trial]] = {}
        self._seen: dict[tuple[str, str, tuple[int, ...]], int] = {}

    def encode(self, name: str, array: Array, known: Collection[str]) -> tuple[str, Encoded] | None:
        """Return the codec for a tensor and what it makes of it; None: send it as it is.

        Args:
            name: The tensor's.
            known: Codecs that the far side reads.
        """
        kind = (name, array.dtype.name, array.shape)
        if kind not in self._seen and len(self._seen) >= _KEPT:
            oldest = next(iter(self._seen))
            del self._seen[oldest], self._trials[oldest]
        seen = self._seen[kind] = self._seen.get(kind, -1) + 1
        trials = self._trials.setdefault(kind, {})
        usable = [item for item in self._allowed if item in known and CODECS[item].fits(array)]
        untried = [item for item in usable if item not in trials]
        if untried:
            self._try(untried[0], array, trials)
        elif usable and seen % self._every == 0:
            self._try(usable[seen // self._every % len(usable)], array, trials)
        best = self._best([item for item in usable if item in trials], trials, array.nbytes)
        if best is None:
            return None
        encoded = CODECS[best].encode(array)
        if encoded.error is not None and encoded.error > self._most_error:
            return None
        return best, encoded

    def _best(self, tried: list[str], trials: dict[str, _Trial], plain_bytes: int) -> str | None:
        rate_bps = self._rate_bps()
        if not 0.0 < rate_bps < math.inf:
            return None
        times_s = {
            item: trials[item].seconds + 8.0 * trials[item].size / rate_bps
            for item in tried
            if trials[item].error <= self._most_error
        }
        best = min(times_s, key=times_s.__getitem__, default=None)
        return best if best is not None and times_s[best] < _GAIN * 8.0 * plain_bytes / rate_bps else None

    def _try(self, name: str, array: Array, trials: dict[str, _Trial]) -> None:
        codec = CODECS[name]
        began_s = self._timer()
        encoded = codec.encode(array)
        back = codec.decode(encoded.data, array.dtype, array.shape)
        took_s = self._timer() - began_s
        error = encoded.error
        if error is None:
            error = float(np.abs(back.astype(np.int16) - array).max())
        old = trials.get(name)
        if old is None:
            trials[name] = _Trial(took_s, len(encoded.data), error)
            return
        old.seconds += _WEIGHT * (took_s - old.seconds)
        old.size += _WEIGHT * (len(encoded.data) - old.size)
        old.error = max(error, old.error)
