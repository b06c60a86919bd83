"""Which decoders there are, by kind."""

from deponij.pipeline.decoders.decoder import Decoder
from deponij.pipeline.registry import Registry

_DECODERS: Registry[type[Decoder]] = Registry("decoder", attribute="kind", room="deponij.pipeline.decoders")
register = _DECODERS.register


def decoder_class(kind: str) -> type[Decoder]:
    """The decoder of a kind.

    Raises:
        UsageError: there is none; the message lists those there are and the nearest.
    """
    return _DECODERS[kind]


def kinds() -> list[str]:
    """All kinds, sorted."""
    return list(_DECODERS.entries())
