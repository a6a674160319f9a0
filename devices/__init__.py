"""Devices: what a board computes with, what each part of a model costs there, and packages of models."""

import os

# onnxruntime tells its makers of its use, from its import on, unless this is set before. Nothing leaves the vehicle.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
