"""`python -m tests.carla_emulator`: the emulator of CARLA's protocol in a process of its own."""

import argparse

from tests.carla_emulator.server import Faults, main

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--map-name", default="Carla/Maps/Emulated")
parser.add_argument("--laps", type=int, default=1, help="how often the map's 200 m are repeated")
parser.add_argument("--version", default="0.9.16")
parser.add_argument("--exit-at", type=int)
parser.add_argument("--freeze-at", type=int)
parser.add_argument("--blind-at", type=int)
parser.add_argument("--slow-at", type=int)
parser.add_argument("--slow-s", type=float, default=0.0)
given = parser.parse_args()
faults = Faults(given.version, given.exit_at, given.freeze_at, given.blind_at, given.slow_at, given.slow_s)
main(given.port, faults, given.map_name, given.laps)
