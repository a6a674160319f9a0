"""The network: a plain residual CNN cut into three trunks, each with a head that answers and says how sure it is.

    frame -> trunk1 -> cut1 (32 x 10 x 20) -> trunk2 -> cut2 (64 x 5 x 10) -> trunk3 -> deep3 (128 x 5 x 10)
               |                                |                                |
             exit1                            exit2                            exit3

Cuts are narrow, so that few bytes cross from device to device: 25.6 KB and 12.8 KB beside the frame's 38.4 KB.
A head gives six raw numbers; `to_answers` turns them into the answers with their units.
"""

import torch
from torch import Tensor, nn

ANSWER_SCALE = (1.0, 0.1, 0.01, 1.0, 0.1, 1.0)
RANGE_UNIT_M = 10.0
PRESENCE, RANGE = 3, 5


class ConvBlock(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1, active: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return torch.relu(x) if self.active else x


class Residual(nn.Module):
    """Two convolutions about a short cut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels)
        self.second = ConvBlock(channels, channels, active=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


class Head(nn.Module):
    """Squeeze, flatten, two layers to six raw answers; a small branch, fed detached, to the confidence's logit."""

    def __init__(self, channels: int, squeezed: int, stride: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = ConvBlock(channels, squeezed, 3 if stride == 2 else 1, stride)
        self.hidden = nn.Linear(squeezed * 50, hidden)
        self.answer = nn.Linear(hidden, 6)
        self.sure_hidden = nn.Linear(hidden + 6, 32)
        self.sure = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = torch.flatten(self.squeeze(x), 1)
        # Half precision would round an offset of 5 m to 3 cm: what follows stays in single precision.
        with torch.autocast(flat.device.type, enabled=False):
            hidden = torch.relu(self.hidden(flat.float()))
            raw = self.answer(hidden)
            seen = torch.cat([hidden, raw], 1).detach()
            return raw, self.sure(torch.relu(self.sure_hidden(seen)))


class DrivingNet(nn.Module):
    """Three trunks, three heads."""

    def __init__(self) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(
            [
                nn.Sequential(
                    ConvBlock(3, 24, 5, 2),
                    ConvBlock(24, 48, 3, 2),
                    Residual(48),
                    ConvBlock(48, 64, 3, 2),
                    ConvBlock(64, 32),
                ),
                nn.Sequential(ConvBlock(32, 128), Residual(128), Residual(128), ConvBlock(128, 64, 3, 2)),
                nn.Sequential(ConvBlock(64, 128), Residual(128), Residual(128)),
            ]
        )
        self.heads = nn.ModuleList([Head(32, 32, 2, 96), Head(64, 32, 1, 96), Head(128, 48, 1, 128)])

    def forward(self, frames: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return (raw answers (n, 6), confidence logit (n, 1)) of each exit for uint8 frames (n, 80, 160, 3)."""
        x = (frames.permute(0, 3, 1, 2).float() - 128.0) / 64.0
        x = x.contiguous(memory_format=torch.channels_last)
        found = []
        for trunk, head in zip(self.trunks, self.heads, strict=True):
            x = trunk(x)
            found.append(head(x))
        return found


def to_answers(raw: Tensor) -> Tensor:
    """Return answers (n, 6) with their units from raw ones: scaled, presence by sigmoid, range as 10 m times exp."""
    scaled = raw * raw.new_tensor(ANSWER_SCALE)
    presence = torch.sigmoid(raw[:, PRESENCE : PRESENCE + 1])
    distance = RANGE_UNIT_M * torch.exp(raw[:, RANGE : RANGE + 1])
    return torch.cat([scaled[:, :PRESENCE], presence, scaled[:, PRESENCE + 1 : RANGE], distance], 1)
