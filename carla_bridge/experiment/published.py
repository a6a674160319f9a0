"""The published figures that ours are printed beside, read from ``published.toml``, which names their source."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A row of EnergyShield's table 1: a policy with or without shield and noise."""

    agent: int
    policy: str
    shield: bool
    noise: bool
    center_deviation_m: float
    tcr_pct: float
    energy_mj_per_window: float


@dataclass(frozen=True, slots=True)
class PublishedLink:
    """A box of EnergyShield's wireless figure."""

    link: str
    energy_vs_local_median: float
    extra_transit_windows_pct: float


@dataclass(frozen=True, slots=True)
class PublishedDistance:
    """A histogram of EnergyShield's figure 7; one bin a metre, the last from 20 m on; no window: energy -1."""

    policy: str
    shield: bool
    noise: bool
    windows: list[int]
    energy_vs_local: list[float]


@dataclass(frozen=True, slots=True)
class PublishedGain:
    """An average gain of SEO over running every model at its base rate [%]."""

    policy: str
    shield: bool
    obstacles: bool
    gain_pct: float


def table1(agent: int = 1) -> list[PublishedRow]:
    """Return the rows of one trained controller, 1 to 4."""
    rows = [PublishedRow(**item) for item in _file()["energyshield"]["table1"]]
    return [row for row in rows if row.agent == agent]


def wireless() -> list[PublishedLink]:
    """Return the boxes of the wireless figure: uniform, shield on, no noise."""
    return [PublishedLink(**item) for item in _file()["energyshield"]["wireless"]]


def distances() -> list[PublishedDistance]:
    """Return the histograms of figure 7."""
    return [PublishedDistance(**item) for item in _file()["energyshield"]["distance"]]


def seo_gains() -> list[PublishedGain]:
    """Return SEO's average gains."""
    return [PublishedGain(**item) for item in _file()["seo"]["gains"]]


@cache
def _file() -> dict[str, Any]:
    text = (files("carla_bridge") / "experiment" / "published.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
