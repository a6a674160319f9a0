"""Smaller payloads: codecs for tensors, and which of them a link is worth. See `offload.codec.choose`."""

from offload.codec.codecs import CODECS, Codec, Encoded, available, decode

__all__ = ["CODECS", "Codec", "Encoded", "available", "decode"]
