"""The edge server: its models, its queue, who may connect, what it decides and counts."""

from offload.server.server import EdgeServer
from offload.server.settings import ServerSettings

__all__ = ["EdgeServer", "ServerSettings"]
