"""What codecs cost and save on camera frames and features, and what the decoder of the wire makes of a million inputs.

Per codec: p50 and p99 of encoding and decoding, size against the plain tensor, greatest error against the declared one,
and the uplink rate below which it is worth its time: 8 (plain - coded) / (encode + decode).

The fuzz target takes random bytes, mutated messages, headers that lie about codecs, shapes and sizes; the decoder may
only return a message or raise a WireError. One seed gives one run.

    python benchmarks/bench_codec.py [--repeats 200] [--fuzz 1000000] [--seed 1] [--json FILE]
"""

import argparse
import json
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from machine import machine, spread

from offload.codec import CODECS, available, decode
from offload.errors import WireError
from offload.frames import Limits, tensor_frames
from offload.wire import Cancel, Hello, Ping, Reply, Request, decode_from_edge, decode_from_vehicle, encode

SMALL = Limits(tensor_bytes=2**16, message_bytes=2**17)


def tensors() -> dict[str, Any]:
    """Return a synthetic road frame and the features of a layer after its ReLU."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:80, 0:160]
    frame = np.stack([rows + columns // 2, 200 - rows, (columns // 20 % 2) * 60 + rows], axis=-1)
    noisy = np.clip(frame + rng.normal(0.0, 3.0, frame.shape), 0, 255).astype(np.uint8)[None]
    features = np.maximum(rng.standard_normal((1, 64, 20, 40)).astype(np.float32), 0.0)
    return {"frame 160x80x3 uint8": noisy, "features 64x20x40 float32": features}


def costs(repeats: int) -> dict[str, dict[str, Any]]:
    """Return the row of each codec on each tensor it takes."""
    rows = {}
    for label, array in tensors().items():
        for name in available():
            codec = CODECS[name]
            if not codec.fits(array):
                continue
            coded = codec.encode(array)
            back = decode(name, coded.data, array.dtype, array.shape)
            encode_s = timed(lambda codec=codec, array=array: codec.encode(array), repeats)
            decode_s = timed(
                lambda name=name, coded=coded, array=array: decode(name, coded.data, array.dtype, array.shape), repeats
            )
            both_s = np.median(encode_s) + np.median(decode_s)
            rows[f"{label}, {name}"] = {
                "bytes": len(coded.data),
                "share": len(coded.data) / array.nbytes,
                "encode_us": spread(encode_s, "us"),
                "decode_us": spread(decode_s, "us"),
                "error": float(np.abs(back.astype(np.float64) - array).max()),
                "declared_error": coded.error,
                "worth_below_mbps": max(0.0, 8.0 * (array.nbytes - len(coded.data)) / both_s / 2**20),
            }
    return rows


def timed(action: Callable[[], object], repeats: int) -> list[float]:
    """Return how long each of `repeats` runs took [s]."""
    samples = []
    for _ in range(repeats):
        began_s = time.perf_counter()
        action()
        samples.append(time.perf_counter() - began_s)
    return samples


def seeds() -> list[list[bytes]]:
    """Return good messages of every kind, plain and coded."""
    array = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    made = [encode(item) for item in (Hello(client="car"), Ping(number=3), Cancel(id=7))]
    payloads = {"jpeg": array, "webp": array, "zstd": array, "int8": np.float32(array), "fp16": np.float32(array)}
    for name in available():
        tensor = payloads[name]
        headers, data = tensor_frames(
            {"x": tensor}, encode=lambda _, item, name=name: (name, CODECS[name].encode(item))
        )
        for message in (
            Request(id=1, model="m", time_left_us=9, tensors=headers),
            Reply(id=1, code="OK", tensors=headers),
        ):
            made.append(encode(message) + [bytes(item) for item in data])  # noqa: PERF401
    return [[bytes(item) for item in frames] for frames in made]


def mutate(frames: list[bytes], rng: random.Random) -> list[bytes]:
    """Return a damaged copy of a message."""
    frames = list(frames)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(frames))
        data = bytearray(frames[at])
        match rng.randrange(7):
            case 0 if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 1:
                del data[rng.randrange(len(data) + 1) :]
            case 2:
                data[rng.randrange(len(data) + 1) : 0] = rng.randbytes(rng.randint(1, 9))
            case 3:
                frames.insert(at, frames[rng.randrange(len(frames))])
                continue
            case 4 if len(frames) > 1:
                del frames[at]
                continue
            case 5:
                frames[0] = lie(frames[0], rng)
                continue
            case _:
                data = bytearray(rng.randbytes(rng.randint(0, 64)))
        frames[at] = bytes(data)
    return frames


def lie(header: bytes, rng: random.Random) -> bytes:
    """Return a header that claims something else about its tensors."""
    try:
        table = msgspec.msgpack.decode(header)
        tensor = rng.choice(table["tensors"])
        tensor[rng.choice(["codec", "dtype", "shape", "error", "name"])] = rng.choice(
            [
                None,
                "zstd",
                "jpeg",
                "int8",
                "float64",
                "bool",
                -1.0,
                [2**31 - 1] * 8,
                [0, 5],
                [4, 4, 3],
                [1, 10**5, 3],
                7,
            ]
        )
        return msgspec.msgpack.encode(table)
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return header


def fuzz(count: int, seed: int) -> dict[str, Any]:
    """Run the decoders on `count` inputs; anything but a message or a WireError ends the run with the input."""
    rng, good, seen = random.Random(seed), seeds(), Counter()
    tracemalloc.start()
    began_s = time.perf_counter()
    for number in range(count):
        frames = [rng.randbytes(rng.randint(0, 80))] if number % 10 == 0 else mutate(rng.choice(good), rng)
        for decoder in (decode_from_vehicle, decode_from_edge):
            try:
                decoder(frames, SMALL)
                seen["read"] += 1
            except WireError:
                seen["refused"] += 1
            except Exception as error:
                raise SystemExit(f"input {number} of seed {seed}: {error!r}\n{frames!r}") from error
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"inputs": count, "seed": seed, **seen, "peak_kb": peak / 1e3, "seconds": time.perf_counter() - began_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--fuzz", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    about = machine("numpy", "opencv-python-headless", "zstandard", "msgspec")
    rows = costs(arguments.repeats)
    print(json.dumps(about))
    times = "p50/p99/max us"
    print(f"{'tensor, codec':34} {'share':>6} {'encode ' + times:>24} {'decode ' + times:>24} {'error':>9} worth below")
    for label, row in rows.items():
        spans = ["/".join(f"{value:.0f}" for value in row[key].values()) for key in ("encode_us", "decode_us")]
        print(
            f"{label:34} {row['share']:6.3f} {spans[0]:>24} {spans[1]:>24} {row['error']:9.3g} "
            f"{row['worth_below_mbps']:.0f} Mbit/s"
        )
    fuzzed = fuzz(arguments.fuzz, arguments.seed)
    print(json.dumps(fuzzed))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, "codecs": rows, "fuzz": fuzzed}, indent=2))


if __name__ == "__main__":
    main()
