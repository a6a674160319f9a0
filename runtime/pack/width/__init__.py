"""Width partition (Map-and-Conquer): stages that run at the same time on different devices, an exit each.

Needs the extra `torch`; what it writes runs without.
"""

try:
    import torch as _torch
except ImportError as error:
    raise ImportError("partitioning a network along its width needs torch: pip install 'headway[torch]'") from error

from runtime.pack.width.errors import WidthError
from runtime.pack.width.export import segment_name, write_width_package
from runtime.pack.width.graph import Graph
from runtime.pack.width.importance import Criterion, rank_channels
from runtime.pack.width.macs import stage_macs
from runtime.pack.width.network import WidthNetwork
from runtime.pack.width.partition import PartitionedNetwork, partition
from runtime.pack.width.plan import WidthPlan, make_plan
from runtime.pack.width.read import read_network
from runtime.pack.width.tune import Tuning, fine_tune

del _torch

__all__ = [
    "Criterion",
    "Graph",
    "PartitionedNetwork",
    "Tuning",
    "WidthError",
    "WidthNetwork",
    "WidthPlan",
    "fine_tune",
    "make_plan",
    "partition",
    "rank_channels",
    "read_network",
    "segment_name",
    "stage_macs",
    "write_width_package",
]
