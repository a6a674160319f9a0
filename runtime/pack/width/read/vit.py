"""Vision transformer: groups of the embedding, heads, and hidden channels of the perceptrons are its widths.

A LayerNorm averages over channels, so a stage normalises over those it may read: its own and, where I says so, earlier
stages'. With one stage that is the LayerNorm itself.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from runtime.pack.width.errors import WidthError
from runtime.pack.width.graph import IMAGE, Activation, StepKind
from runtime.pack.width.network import Draft, Tokens, WidthNetwork


def read_vit(model: Any, image: Sequence[int]) -> WidthNetwork:
    """Return a VisionTransformer (`conv_proj`, `class_token`, `encoder`, `heads`) as a network.

    Raises:
        WidthError: A part is missing or of another kind.
    """
    draft = Draft("vit", image)
    x = draft.layer("conv_proj", IMAGE, model.conv_proj)
    places = model.encoder.pos_embedding[0]
    if places.shape[0] != draft.shape(x)[2] * draft.shape(x)[3] + 1:
        raise WidthError(f"{places.shape[0]} places for patches of {draft.shape(x)[2:]}: the image has another size")
    x = draft.step(StepKind.TOKENS, "tokens", [x], tokens=Tokens(model.class_token[0, 0], places))
    for index, block in enumerate(model.encoder.layers):
        x = _attention(draft, f"layers.{index}", block, x)
        x = _perceptron(draft, f"layers.{index}", block, x)
    linear = [module for module in model.heads if not isinstance(module, nn.Dropout)]
    if len(linear) != 1:
        raise WidthError(f"heads is {model.heads}: must be one Linear")
    return draft.finish(draft.step(StepKind.PICK, "class", [x]), linear[0], model.encoder.ln)


def _attention(draft: Draft, name: str, block: Any, x: str) -> str:
    attention = block.self_attention
    if not isinstance(attention, nn.MultiheadAttention) or attention.in_proj_weight is None:
        raise WidthError(
            f"{name}.self_attention must be a MultiheadAttention with queries, keys and values of one size"
        )
    if attention.bias_k is not None or attention.add_zero_attn:
        raise WidthError(f"{name}.self_attention has extra keys: must have none")
    size, made, space = attention.head_dim, [], None
    for index, role in enumerate(("query", "key", "value")):
        linear = _slice(attention, index)
        made.append(draft.layer(f"{name}.{role}", x, linear, before=block.ln_1, space=space, unit=size))
        space = draft.space(made[0])
    heads = draft.step(StepKind.ATTEND, f"{name}.heads", made, [size])
    y = draft.layer(f"{name}.out", heads, attention.out_proj, space=draft.space(x))
    return draft.step(StepKind.ADD, f"{name}.attended", [x, y])


def _slice(attention: Any, index: int) -> Any:
    """Return the queries', keys' or values' part of a joint projection."""
    size = attention.embed_dim
    rows = slice(index * size, (index + 1) * size)
    linear = nn.Linear(size, size, bias=attention.in_proj_bias is not None)
    with torch.no_grad():
        linear.weight.copy_(attention.in_proj_weight[rows])
        if attention.in_proj_bias is not None:
            linear.bias.copy_(attention.in_proj_bias[rows])
    return linear


def _perceptron(draft: Draft, name: str, block: Any, x: str) -> str:
    modules = [module for module in block.mlp if not isinstance(module, nn.Dropout)]
    if len(modules) != 3 or not isinstance(modules[1], nn.GELU) or modules[1].approximate != "none":
        raise WidthError(f"{name}.mlp is {block.mlp}: must be Linear, exact GELU, Linear")
    first, second = copy.deepcopy(modules[0]), modules[2]
    hidden = draft.layer(f"{name}.hidden", x, first, before=block.ln_2, activation=Activation.GELU)
    y = draft.layer(f"{name}.mlp", hidden, second, space=draft.space(x))
    return draft.step(StepKind.ADD, name, [x, y])
