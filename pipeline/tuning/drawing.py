"""Draws of torch's own generator that belong to one thing (a picture in an epoch), whatever was drawn before."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_one_at_a_time = RLock()


def seed_of(seed: int, *what: str | int) -> int:
    """A seed of 56 bits for one thing: the same for the same seed and words, and unlike for all others."""
    told = "/".join(str(one) for one in (seed, *what))
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:7], "big")


@contextmanager
def drawing(seed: int, *what: str | int) -> Iterator[None]:
    """Torch's CPU generator begins at `seed_of(seed, *what)`; it is as it was afterwards, and no GPU's is touched.

    A process has one such generator: what draws in the block waits for other threads' blocks, but whatever draws
    without one (dropout of a training in another thread) is disturbed. Workers are processes, or there are none.
    """
    import torch

    with _one_at_a_time, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, *what))
        yield
