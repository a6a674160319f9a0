"""Share a whole model's time out over its segments, where no segment was measured."""

from devices.errors import ProfileError
from devices.package.graph import Package


def times_by_macs(package: Package, latency_s: float) -> dict[str, float]:
    """Share a latency out over a package's segments by their multiply-accumulates.

    t_i = latency x macs_i / sum of macs: an assumption, to be used where no segment was measured.

    Args:
        package: The package.
        latency_s: Time of all segments together [s].
    Returns:
        Time of each segment by id [s].
    Raises:
        ProfileError: No segment declares multiply-accumulates.
    """
    total = sum(segment.macs for segment in package.segments)
    if total == 0:
        raise ProfileError(f"package {package.name!r} declares no multiply-accumulates to share a time out by")
    return {segment.id: latency_s * segment.macs / total for segment in package.segments}
