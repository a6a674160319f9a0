"""Train all exits at once; frames stay on the device, mirrored at random.

    loss = sum over exits [ Huber(error / SCALE) + 5 BCE(presence) + BCE(within tolerance | confidence) ]

The last term trains the confidence branches alone: they read their head detached.
"""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from perception.network import PRESENCE, RANGE_UNIT_M, DrivingNet, to_answers
from perception.scores import BEARING, RANGE, TOLERANCE

SCALE = (0.15, 0.015, 0.003, 1.0, 0.02, 0.06)
MIRRORED = (-1.0, -1.0, -1.0, 1.0, -1.0, 1.0)
BATCH = 512
PEAK_RATE = 2.5e-3
WARM_UP = 0.05


def train(
    frames: NDArray[np.uint8],
    truth: NDArray[np.float32],
    *,
    epochs: int,
    device: str,
    seed: int,
    say: Callable[[str], None],
) -> DrivingNet:
    """Return a network trained on `frames` (n, 80, 160, 3) and answers (n, 6) for `epochs` passes."""
    torch.manual_seed(seed)
    network = DrivingNet().to(device).to(memory_format=torch.channels_last)
    pixels, answers = torch.from_numpy(frames).to(device), torch.from_numpy(truth).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    steps = max(1, len(frames) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step / (steps * epochs)))
    for epoch in range(epochs):
        network.train()
        begin, total = time.perf_counter(), torch.zeros((), device=device)
        order = torch.randperm(len(frames), device=device)
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            x, y = _mirrored(pixels[batch], answers[batch])
            with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
                found = network(x)
            loss = torch.stack([exit_loss(raw, logit, y) for raw, logit in found]).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 20.0)
            optimiser.step()
            schedule.step()
            total += loss.detach()
        say(f"epoch {epoch + 1}/{epochs}: loss {float(total) / steps:.3f}, {time.perf_counter() - begin:.1f} s")
    return network.eval()


def exit_loss(raw: Tensor, logit: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of one exit for raw answers (n, 6), confidence logits (n, 1) and true answers (n, 6)."""
    present = truth[:, PRESENCE]
    error = to_answers(raw) - truth
    scaled = error / error.new_tensor(SCALE)
    # The range's relative error, as the difference of logarithms: linear in the raw output.
    scaled = torch.cat([scaled[:, :RANGE], _log_range_error(raw, truth)[:, None] / SCALE[RANGE]], 1)
    weight = torch.ones_like(scaled)
    weight[:, PRESENCE] = 0.0
    weight[:, BEARING:] = present[:, None]
    fit = (functional.smooth_l1_loss(scaled, torch.zeros_like(scaled), reduction="none") * weight).sum(1).mean()
    seen = functional.binary_cross_entropy_with_logits(raw[:, PRESENCE], present)
    sure = functional.binary_cross_entropy_with_logits(logit[:, 0], _good(error.detach(), raw, truth))
    return fit + 5.0 * seen + sure


def _log_range_error(raw: Tensor, truth: Tensor) -> Tensor:
    return raw[:, RANGE] - torch.log(truth[:, RANGE] / RANGE_UNIT_M)


def _good(error: Tensor, raw: Tensor, truth: Tensor) -> Tensor:
    """Return 1 where the answer is within tolerance, else 0, as `scores.within_tolerance` has it."""
    relative = torch.cat([error[:, :RANGE], error[:, RANGE:] / truth[:, RANGE:]], 1).abs()
    good = relative <= relative.new_tensor(TOLERANCE)
    good[:, BEARING:] |= truth[:, PRESENCE : PRESENCE + 1] < 0.5
    return good.all(1).to(raw.dtype)


def _mirrored(frames: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the batch with a random half of it seen in a mirror."""
    chosen = torch.rand(len(frames), device=frames.device) < 0.5
    flipped = torch.where(chosen[:, None, None, None], frames.flip(2), frames)
    return flipped, torch.where(chosen[:, None], truth * truth.new_tensor(MIRRORED), truth)


def _rate(done: float) -> float:
    if done < WARM_UP:
        return done / WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * (done - WARM_UP) / (1.0 - WARM_UP)))


@torch.no_grad()
def infer(
    network: DrivingNet, frames: NDArray[np.uint8], device: str
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return (answers (n, 6), confidence logits (n,)) of each exit, in single precision."""
    parts: list[list[tuple[Tensor, Tensor]]] = []
    for start in range(0, len(frames), BATCH):
        found = network(torch.from_numpy(frames[start : start + BATCH]).to(device))
        parts.append([(to_answers(raw), logit[:, 0]) for raw, logit in found])
    return [
        (
            torch.cat([part[index][0] for part in parts]).cpu().double().numpy(),
            torch.cat([part[index][1] for part in parts]).cpu().double().numpy(),
        )
        for index in range(len(parts[0]))
    ]
