"""Short training of a partitioned network: all exits at once, distilled from the whole network.

    loss = sum_i w_i [ (1 - d) CE(z_i, y) + d T^2 KL(softmax(t / T) || softmax(z_i / T)) ]

z_i are exit i's logits, t the whole network's, y the labels. Reference: Hinton et al., arXiv 1503.02531.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from runtime.pack.width.errors import WidthError
from runtime.pack.width.network import check_images
from runtime.pack.width.partition import PartitionedNetwork


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a partitioned network is trained.

    Args:
        epochs: Passes over the images.
        batch: Images a step.
        rate: Peak learning rate, of AdamW in one cycle.
        decay: Weight decay.
        distillation: d, the share of the whole network's word against the labels'; 1 without labels.
        temperature: T.
        weights: w of each exit; None weighs them alike.
        augment: Changes a batch of images at random.
        seed: Of everything random.
    """

    epochs: int = 10
    batch: int = 64
    rate: float = 2e-3
    decay: float = 1e-2
    distillation: float = 0.7
    temperature: float = 2.0
    weights: tuple[float, ...] | None = None
    augment: Callable[[Tensor], Tensor] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise ValueError(f"epochs = {self.epochs}, batch = {self.batch}: must be at least 1 and 2")
        if self.rate <= 0.0 or self.temperature <= 0.0 or not 0.0 <= self.distillation <= 1.0:
            raise ValueError(
                f"rate = {self.rate}, temperature = {self.temperature}, distillation = {self.distillation}: "
                "must be positive, positive, and within 0..1"
            )


def fine_tune(
    parts: PartitionedNetwork,
    whole: Any,
    images: Tensor,
    labels: Tensor | None = None,
    settings: Tuning | None = None,
) -> tuple[float, ...]:
    """Train a partitioned network, in place, and leave it in eval mode.

    Args:
        parts: What is trained.
        whole: The unpartitioned network, or any module that gives logits (N, classes); it is not trained.
        images: (n, C, H, W).
        labels: Classes (n,); None trains on the whole network's word alone.
        settings: How.
    Returns:
        The mean loss of each epoch.
    Raises:
        WidthError: Images, labels or weights of exits do not fit, or there are fewer than two images.
    """
    settings = settings or Tuning()
    weights = settings.weights or (1.0,) * parts.plan.stages
    check_images(parts.graph, images, labels)
    if len(weights) != parts.plan.stages or len(images) < 2:
        raise WidthError(
            f"{len(weights)} weights for {parts.plan.stages} exits, {len(images)} images: must be one an exit, and two "
            "images or more"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        history = _train(parts, whole.eval(), images, labels, weights, settings)
    parts.eval()
    return history


def _train(
    parts: PartitionedNetwork,
    whole: Any,
    images: Tensor,
    labels: Tensor | None,
    weights: tuple[float, ...],
    settings: Tuning,
) -> tuple[float, ...]:
    chunks = max(1, len(images) // settings.batch)
    optimiser = torch.optim.AdamW(parts.parameters(), lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=settings.epochs * chunks)
    history = []
    for _ in range(settings.epochs):
        parts.train()
        total = 0.0
        for rows in torch.randperm(len(images)).chunk(chunks):
            batch = images[rows] if settings.augment is None else settings.augment(images[rows])
            with torch.no_grad():
                teacher = whole(batch)
            wanted = None if labels is None else labels[rows]
            losses = [_loss(logits, teacher, wanted, settings) for logits in parts(batch)]
            loss = torch.stack([w * value for w, value in zip(weights, losses, strict=True)]).sum()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parts.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        history.append(total / len(images))
    return tuple(history)


def _loss(logits: Tensor, teacher: Tensor, labels: Tensor | None, settings: Tuning) -> Tensor:
    t = settings.temperature
    target = torch.softmax(teacher / t, dim=1)
    distilled = functional.kl_div(torch.log_softmax(logits / t, dim=1), target, reduction="batchmean") * t * t
    if labels is None:
        return distilled
    return (1.0 - settings.distillation) * functional.cross_entropy(logits, labels) + settings.distillation * distilled
