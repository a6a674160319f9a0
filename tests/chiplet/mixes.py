"""Small layers, mixes and packages for the tests of chiplets."""

from hypothesis import strategies as st

from devices.chiplet.chip import Chiplet, Dataflow
from devices.chiplet.layer import Kind, Layer
from devices.chiplet.package import Package
from runtime.plan.chiplet.mix import Mix, Work

sizes = st.integers(1, 40)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Draw a layer of any kind."""
    kinds: tuple[Kind, ...] = ("conv", "depthwise", "gemm", "attention")
    kind = draw(st.sampled_from(kinds))
    if kind in ("gemm", "attention"):
        copies = draw(st.integers(1, 4))
        return Layer("m", kind, draw(sizes), draw(sizes), 1, 1, draw(sizes), 1, 1, copies)
    kernel, stride = draw(st.sampled_from((1, 3, 5))), draw(st.sampled_from((1, 2)))
    inputs = 1 if kind == "depthwise" else draw(st.integers(1, 200))
    return Layer("l", kind, draw(st.integers(1, 200)), inputs, kernel, kernel, draw(sizes), draw(sizes), stride)


@st.composite
def mixes(draw: st.DrawFn, models: int = 2, most_layers: int = 3) -> Mix:
    """Draw a mix of a few short models."""
    works = []
    for index in range(draw(st.integers(1, models))):
        row = tuple(draw(st.lists(layers(), min_size=1, max_size=most_layers)))
        works.append(Work(f"model{index}", row, draw(st.sampled_from((1, 2, 4)))))
    return Mix("drawn", tuple(works))


@st.composite
def packages(draw: st.DrawFn, rows: int = 2, columns: int = 2) -> Package:
    """Draw a small package of any dataflows, with a buffer that some tensors don't fit."""
    flows: list[Dataflow] = draw(
        st.lists(st.sampled_from(("ws", "os")), min_size=rows * columns, max_size=rows * columns)
    )
    buffer = draw(st.sampled_from((2_000, 50_000, 10_000_000)))
    return Package("drawn", rows, columns, tuple(Chiplet(flow, 256, buffer) for flow in flows))
