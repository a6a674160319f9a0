"""Reaching a CARLA server: the wheel, the connection, the version, and what earlier runs left behind.

Every actor of ours carries one role name, so that the next run finds and removes what a killed one left.

A client of CARLA's is never freed here: where its last reference goes while one of its own threads still delivers, the
wheel ends the whole process ("terminate called without an active exception"). So there is one a server, used again by
every world, and given up, but not freed, once its server fails. At the end of a process nothing of this helps: who
needs its exit status leaves by os._exit.
"""

import ctypes
import os
import socket
from importlib import import_module
from typing import Any

from carla_bridge.errors import SilentSimulatorError, SimulatorError

ROLE = "headway"
_PROBE_S = 1.0
_clients: dict[tuple[str, int], Any] = {}


def load_carla() -> Any:
    """Return the module `carla`.

    Raises:
        SimulatorError: the wheel is not installed.
    """
    os.environ.setdefault("HOME", os.path.expanduser("~"))  # without one the wheel ends the process as it is loaded
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
        SilentSimulatorError: nobody answers in time.
        SimulatorError: the server is of another version.
    """
    try:
        with socket.create_connection((host, port), min(_PROBE_S, timeout_s)):
            pass
        client = _client(host, port, timeout_s)
        theirs, ours = client.get_server_version(), client.get_client_version()
    except (OSError, RuntimeError) as error:
        give_up(host, port)
        raise SilentSimulatorError(
            f"no CARLA server answers at {host}:{port} within {timeout_s:g} s ({error}): is it running, "
            f"and is {port} its -carla-rpc-port?"
        ) from error
    if theirs != ours:
        raise SimulatorError(
            f"the CARLA server at {host}:{port} is version {theirs}, the client installed here {ours}: "
            f"start a server of version {ours}, or pip install carla=={theirs}"
        )
    return client


def give_up(host: str, port: int) -> None:
    """Have the next `connect` to a server that failed make a new client."""
    _clients.pop((host, port), None)


def _client(host: str, port: int, timeout_s: float) -> Any:
    client = _clients.get((host, port))
    if client is None:
        client = _clients[host, port] = load_carla().Client(host, port, 1)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))
    client.set_timeout(timeout_s)
    return client


def remove_ours(client: Any, world: Any) -> int:
    """Destroy the actors that bear our role name, sensors first, and return how many there were."""
    carla = load_carla()
    ours = [actor for actor in world.get_actors() if actor.attributes.get("role_name") == ROLE]
    ours.sort(key=lambda actor: not str(actor.type_id).startswith("sensor."))
    client.apply_batch_sync([carla.command.DestroyActor(actor.id) for actor in ours], False)
    return len(ours)
