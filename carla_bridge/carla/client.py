"""Reaching a CARLA server: the wheel, the connection, the version, and what earlier runs left behind.

Every actor of ours carries one role name, so that the next run finds and removes what a killed one left.
"""

from importlib import import_module
from typing import Any

from carla_bridge.errors import SimulatorError

ROLE = "headway"


def load_carla() -> Any:
    """Return the module `carla`.

    Raises:
        SimulatorError: the wheel is not installed.
    """
    try:
        return import_module("carla")
    except ImportError as error:
        raise SimulatorError(
            f"CARLA's client cannot be imported ({error}): install it with pip install 'headway[carla]'"
        ) from error


def connect(host: str, port: int, timeout_s: float) -> Any:
    """Return a client of the server at `host`:`port`, which speaks the client's own version.

    Args:
        host, port: Where the simulator listens.
        timeout_s: How long any one call may take [s].
    Raises:
        SimulatorError: nobody answers in time, or the server is of another version.
    """
    carla = load_carla()
    client = carla.Client(host, port, 1)
    client.set_timeout(timeout_s)
    try:
        theirs, ours = client.get_server_version(), client.get_client_version()
    except RuntimeError as error:
        raise SimulatorError(
            f"no CARLA server answers at {host}:{port} within {timeout_s:g} s ({error}): is it running, "
            f"and is {port} its -carla-rpc-port?"
        ) from error
    if theirs != ours:
        raise SimulatorError(
            f"the CARLA server at {host}:{port} is version {theirs}, the client installed here {ours}: "
            f"start a server of version {ours}, or pip install carla=={theirs}"
        )
    return client


def remove_ours(client: Any, world: Any) -> int:
    """Destroy the actors that bear our role name, sensors first, and return how many there were."""
    carla = load_carla()
    ours = [actor for actor in world.get_actors() if actor.attributes.get("role_name") == ROLE]
    ours.sort(key=lambda actor: not str(actor.type_id).startswith("sensor."))
    client.apply_batch_sync([carla.command.DestroyActor(actor.id) for actor in ours], False)
    return len(ours)
