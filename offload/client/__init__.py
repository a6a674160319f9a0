"""The vehicle's side of offloading: connections, which server gets what, and a model in two halves."""

from offload.client.client import EdgeClient
from offload.client.settings import ClientSettings, PeerState, Status
from offload.outcome import Handle, Outcome, payload_bits

__all__ = ["ClientSettings", "EdgeClient", "Handle", "Outcome", "PeerState", "Status", "payload_bits"]
