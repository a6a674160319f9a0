"""Small models of the three families, laid out as torchvision's, for where torchvision is not installed.

Dropout, stochastic depth and pretrained weights are torchvision's business; whatever follows its layouts is read alike.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Vgg(nn.Module):  # type: ignore[misc]
    """Convolutions 3 x 3, each with batch normalisation and ReLU, a maximum over 2 x 2 wherever the list says "M".

    Args:
        layout: Channels of each convolution, or "M".
        classes: Columns of the answer.
        channels: Of the image.
        hidden: Channels of linear layers between features and classifier.
    """

    def __init__(
        self, layout: Sequence[int | str], classes: int, channels: int = 3, hidden: Sequence[int] = ()
    ) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for entry in layout:
            if isinstance(entry, str):
                modules.append(nn.MaxPool2d(2))
                continue
            modules += [nn.Conv2d(channels, entry, 3, padding=1, bias=False), nn.BatchNorm2d(entry), nn.ReLU()]
            channels = entry
        self.features = nn.Sequential(*modules)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        linear: list[nn.Module] = []
        for size in hidden:
            linear += [nn.Linear(channels, size), nn.ReLU()]
            channels = size
        self.classifier = nn.Sequential(*linear, nn.Linear(channels, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, channels, H, W)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class Block(nn.Module):  # type: ignore[misc]
    """Two convolutions added to what they read."""

    def __init__(self, read: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(read, made, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(made)
        self.conv2 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(made)
        self.downsample = None
        if stride != 1 or read != made:
            self.downsample = nn.Sequential(nn.Conv2d(read, made, 1, stride, bias=False), nn.BatchNorm2d(made))

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(x + f(x))."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):  # type: ignore[misc]
    """A 3 x 3 convolution, then up to four layers of blocks, each after the first at half the size.

    Args:
        widths: Channels of each layer.
        classes: Columns of the answer.
        channels: Of the image.
        depth: Blocks a layer.
    """

    def __init__(self, widths: Sequence[int], classes: int, channels: int = 3, depth: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        read, self.layers = widths[0], len(widths)
        for index, made in enumerate(widths):
            blocks = [Block(read if k == 0 else made, made, 2 if index and k == 0 else 1) for k in range(depth)]
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            read = made
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(read, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, channels, H, W)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        for index in range(self.layers):
            x = getattr(self, f"layer{index + 1}")(x)
        return self.fc(self.avgpool(x).flatten(1))


class EncoderBlock(nn.Module):  # type: ignore[misc]
    """Attention and a perceptron, each normalised before and added to what it reads."""

    def __init__(self, size: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(size, eps=1e-6), nn.LayerNorm(size, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(size, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, size))

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens (N, T, D) after this block."""
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):  # type: ignore[misc]
    """Places and blocks."""

    def __init__(self, tokens: int, size: int, heads: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(0.02 * torch.randn(1, tokens, size))
        self.layers = nn.Sequential(*(EncoderBlock(size, heads, hidden) for _ in range(depth)))
        self.ln = nn.LayerNorm(size, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens, normalised."""
        return self.ln(self.layers(x + self.pos_embedding))


class VisionTransformer(nn.Module):  # type: ignore[misc]
    """Patches, a class token, blocks, a linear classifier on the class token.

    Args:
        side: Of the square image.
        patch: Side of a patch.
        size: Channels of the embedding.
        heads: Of each attention.
        hidden: Channels of each perceptron.
        depth: Blocks.
        classes: Columns of the answer.
        channels: Of the image.
    """

    def __init__(
        self, side: int, patch: int, size: int, heads: int, hidden: int, depth: int, classes: int, channels: int = 3
    ) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(channels, size, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, size))
        self.encoder = Encoder((side // patch) ** 2 + 1, size, heads, hidden, depth)
        self.heads = nn.Sequential(nn.Linear(size, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, channels, side, side)."""
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1)
        return self.heads(self.encoder(tokens)[:, 0])
