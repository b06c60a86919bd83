"""How many items each class gives to a part, and in which order items are taken.

Everything is decided by hashes of the seed with names, never by a random stream, so that the
outcome depends on neither row order nor library versions.
"""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def allocate(
    counts: Mapping[str, int], n_draw: int, *, closed: Collection[str] = (), salt: str = ""
) -> dict[str, int]:
    """How many of `n_draw` each class gives: its share rounded down, then one more by largest remainder.

    This is the allocation of scikit-learn's `StratifiedShuffleSplit` with ties decided by a hash. That
    class itself refuses classes with one member and draws smaller than the number of classes.
    A class gives at most all but one of its items and a closed class none; what they do not give,
    others do, so the sum is `n_draw` wherever the counts allow.

    Args:
        counts: items that each class has left.
        n_draw: items wanted in total.
        closed: classes that give nothing.
        salt: decides which of equal remainders is rounded up.
    """
    limits = {name: 0 if name in closed else max(0, count - 1) for name, count in counts.items()}
    total = sum(counts.values())
    shares = {name: n_draw * count / total for name, count in counts.items()}
    taken = {name: min(limits[name], math.floor(share + 1e-9)) for name, share in shares.items()}
    ties = {name: digest(salt, "class", name) for name in counts}
    n_wanted = min(n_draw, sum(limits.values()))
    while (n_missing := n_wanted - sum(taken.values())) > 0:
        free = [name for name in counts if taken[name] < limits[name]]
        free.sort(key=lambda name: (round(taken[name] - shares[name], 9), ties[name]))
        for name in free[:n_missing]:
            taken[name] += 1
    return taken


def seeded_order(names: Sequence[str], seed: int, kind: str) -> NDArray[np.intp]:
    """[n] positions of the names in a shuffled order that depends on seed, kind and names alone."""
    digests = np.asarray([digest(str(seed), kind, name) for name in names])
    return np.argsort(digests, kind="stable")


def digest(*fields: str) -> str:
    """128 bits of the fields, as hexadecimal characters."""
    return hashlib.blake2b("\0".join(fields).encode(), digest_size=16).hexdigest()
