"""Codecs: what comes back differs by no more than declared, and what is damaged or lies is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from offload.codec import CODECS, available, decode
from offload.codec.choose import CodecChooser
from offload.errors import CodecError, WireError
from offload.frames import Array, Limits, tensor_frames
from offload.wire import Request, decode_from_vehicle
from offload.wire import encode as encode_header

SHAPES = hnp.array_shapes(max_dims=4, max_side=6)
FLOATS = hnp.arrays(np.float32, SHAPES, elements=st.floats(-60000, 60000, width=32))
IMAGE = np.add.outer(np.arange(80), np.arange(160)).astype(np.uint8)[None, :, :, None].repeat(3, axis=3)


@given(FLOATS, st.sampled_from(["fp16", "int8"]))
def test_lossy_floats_stay_within_their_declared_error(array: Array, name: str) -> None:
    encoded = CODECS[name].encode(array)
    back = decode(name, encoded.data, array.dtype, array.shape)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert encoded.error is not None
    assert np.abs(back.astype(np.float64) - array).max() <= encoded.error * (1 + 1e-9)


def test_the_declared_error_of_int8_is_no_wider_than_half_a_step() -> None:
    array = np.random.default_rng(1).standard_normal((4, 100)).astype(np.float32)
    encoded = CODECS["int8"].encode(array)
    assert encoded.error == pytest.approx(np.ptp(array) / 510.0, rel=1e-3)
    assert len(encoded.data) == array.size + 16


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
def test_what_a_codec_cannot_hold_it_does_not_take(value: float) -> None:
    array = np.array([1.0, value], np.float32)
    assert not CODECS["fp16"].fits(array)
    assert CODECS["int8"].fits(array) == math.isfinite(value)


@pytest.mark.parametrize("name", ["jpeg", "webp"])
@pytest.mark.parametrize("image", [IMAGE, IMAGE[0], IMAGE[..., :1]])
def test_images_come_back_alike_and_smaller(name: str, image: Array) -> None:
    assert CODECS[name].fits(image)
    encoded = CODECS[name].encode(image)
    back = decode(name, encoded.data, image.dtype, image.shape)
    assert back.shape == image.shape
    assert len(encoded.data) < image.nbytes / 2
    assert np.abs(back.astype(int) - image).mean() < 4.0


@given(st.sampled_from(["uint8", "int64", "float32"]), hnp.arrays(np.uint8, 64), st.sampled_from([(8, -1), (-1,)]))
def test_zstd_loses_nothing(dtype: str, raw: Array, shape: tuple[int, ...]) -> None:
    pytest.importorskip("zstandard")
    array = raw.view(dtype).reshape(shape)
    back = decode("zstd", CODECS["zstd"].encode(array).data, array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


def test_declared_sizes_are_checked_before_memory_is_taken() -> None:
    for name in ("jpeg", "webp"):
        data = CODECS[name].encode(IMAGE).data
        with pytest.raises(CodecError, match="80 x 160, the header says 8 x 16"):
            decode(name, data, np.dtype(np.uint8), (1, 8, 16, 3))
    if "zstd" in available():
        bomb = CODECS["zstd"].encode(np.zeros(2**24, np.uint8)).data
        assert len(bomb) < 2**12
        with pytest.raises(CodecError, match="has 16777216 bytes, its shape wants 8"):
            decode("zstd", bomb, np.dtype(np.uint8), (8,))


@given(st.sampled_from(sorted(CODECS)), st.binary(max_size=200), st.integers(0, 200), st.integers(0, 255))
def test_damage_is_refused_or_harmless(name: str, noise: bytes, at: int, flip: int) -> None:
    if name not in available():
        return
    array = IMAGE[0, :8, :8] if CODECS[name].fits(IMAGE) else np.linspace(0, 1, 64, dtype=np.float32)
    good = bytearray(CODECS[name].encode(array).data)
    good[at % len(good)] ^= flip
    for data in (noise, bytes(good), bytes(good)[: at % len(good)]):
        try:
            back = decode(name, data, array.dtype, array.shape)
        except CodecError:
            continue
        assert (back.dtype, back.shape) == (array.dtype, array.shape)


def test_coded_tensors_travel_and_are_limited_by_what_they_become() -> None:
    features = np.linspace(-1.0, 1.0, 1000, dtype=np.float32)
    headers, data = tensor_frames({"f": features}, encode=lambda _, array: ("int8", CODECS["int8"].encode(array)))
    header = encode_header(Request(id=1, model="m", time_left_us=1, tensors=headers))[0]
    frames = [header, bytes(data[0])]
    message, tensors = decode_from_vehicle(frames)
    assert isinstance(message, Request)
    error = message.tensors[0].error
    assert error is not None
    assert np.abs(tensors["f"] - features).max() <= error
    assert not tensors["f"].flags.writeable
    with pytest.raises(WireError, match="'f' has 4000 bytes: at most 3000"):
        decode_from_vehicle(frames, Limits(tensor_bytes=3000))


def chooser(rate_bps: float, ticks: list[float], **options: float) -> CodecChooser:
    return CodecChooser(["fp16", "int8"], lambda: rate_bps, timer=lambda: ticks.pop(0) if ticks else 0.0, **options)  # type: ignore[arg-type]


def test_the_codec_that_is_there_first_is_chosen() -> None:
    array = np.linspace(0.0, 1.0, 10_000, dtype=np.float32)
    known = ("fp16", "int8")
    slow_link = chooser(1e6, [0.0, 0.001, 0.0, 0.002])
    names = [(slow_link.encode("f", array, known) or ("none",))[0] for _ in range(3)]
    assert names == ["fp16", "int8", "int8"]  # one trial a tensor
    fast_link = chooser(1e9, [0.0, 0.001, 0.0, 0.002])
    assert [fast_link.encode("f", array, known) for _ in range(3)] == [None] * 3
    unknown_rate = chooser(math.inf, [])
    assert unknown_rate.encode("f", array, known) is None
    far_side = chooser(1e6, [])
    assert [(far_side.encode("f", array, ("fp16",)) or ("none",))[0] for _ in range(3)] == ["fp16"] * 3
    assert far_side.encode("f", array, ()) is None


def test_an_error_beyond_what_is_allowed_is_never_sent() -> None:
    array = np.linspace(0.0, 1.0, 10_000, dtype=np.float32)
    strict = chooser(1e6, [], most_error=1e-3)
    assert {(strict.encode("f", array, ("fp16", "int8")) or ("none",))[0] for _ in range(4)} == {"fp16"}
    wide = array * 1e4  # of the same kind, but its error is larger
    assert strict.encode("f", wide, ("fp16", "int8")) is None


def test_impossible_choosers_are_refused() -> None:
    with pytest.raises(CodecError, match="'h264' cannot be had"):
        CodecChooser(["h264"], lambda: 1.0)
    with pytest.raises(CodecError, match="most_error = -1"):
        CodecChooser([], lambda: 1.0, most_error=-1.0)
