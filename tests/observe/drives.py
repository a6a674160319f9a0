"""A daemon, its guard and a vehicle that is driven, all real, for as long as a test needs them."""

import contextlib
import random
import socket as sockets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import carla_bridge
import headway
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.loop import RealTimeLoop, Record
from carla_bridge.scenario import load_scenario
from shield.vehicle import load_vehicle
from tests.processes import PATIENCE_S, end, end_owner, start, wait_for

PACKAGE = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
_START_S = 60.0


def free_port() -> int:
    """Return a port below those that the kernel gives away by itself: nobody else gets it before it is used."""
    most = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(min(10_000, most // 2), most)
        with sockets.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Driven:
    folder: Path
    process: "subprocess.Popen[str]"

    @property
    def socket(self) -> Path:
        return self.folder / "d.sock"

    @property
    def guard(self) -> Path:
        return self.folder / "headway-guard.sock"

    def drive(self, duration_s: float) -> Record:
        world = KinematicWorld(load_scenario("town04_short"), load_vehicle("demo"), seed=3)
        with headway.Session(self.socket, self.guard) as session:
            return RealTimeLoop(world, session).run(duration_s)

    def ask(self) -> headway.Client:
        return headway.Client(self.socket, timeout_s=PATIENCE_S)


@contextlib.contextmanager
def driven(folder: Path, *extra: str) -> Iterator[Driven]:
    socket = folder / "d.sock"
    process = start("serve", "--socket", str(socket), "--package", str(PACKAGE), *extra)
    running = Driven(folder, process)

    def ready() -> bool:
        assert process.poll() is None
        with contextlib.suppress(headway.HeadwayError), headway.Client(socket, timeout_s=1.0) as client:
            return bool(client.status()["ready"])
        return False

    try:
        wait_for(ready, _START_S)
        yield running
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
        end(process)
        end_owner(running.guard)
