"""Prometheus families made from what is counted anyway."""

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

PREFIX = "headway_"


def counter(name: str, text: str, label: str, counts: Mapping[str, float]) -> CounterMetricFamily:
    """Return a counter with one label."""
    family = CounterMetricFamily(PREFIX + name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([str(value)], count)
    return family


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """Return a gauge without labels."""
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def total(name: str, text: str, value: float) -> CounterMetricFamily:
    """Return a counter without labels."""
    return CounterMetricFamily(PREFIX + name, text, value=value)


def add_histogram(
    family: HistogramMetricFamily, labels: Iterable[str], buckets: Mapping[str, int], sum_value: float
) -> None:
    """Add one histogram to its family."""
    family.add_metric(list(labels), [(end, float(count)) for end, count in buckets.items()], sum_value)
