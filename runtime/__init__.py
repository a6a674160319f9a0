"""Runtime: the daemon and what it decides; packing and planning."""

import devices  # noqa: F401  # before onnxruntime, whose telemetry it keeps off
