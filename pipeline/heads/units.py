"""Vectors as directions: rows divided by their lengths. Heads that compare by cosine share it.

Shape letters: n rows, d feature width.
"""

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.head import Floats
from deponij.store.errors import DataError


def unit_rows(vectors: Floats, what: str) -> NDArray[np.float64]:
    """Rows of [n, d] divided by their lengths; `what` names them in messages.

    Raises:
        DataError: a row of length 0 has no direction.
    """
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not (lengths > 0).all():
        rows = np.flatnonzero(lengths[:, 0] == 0)
        first = rows[:5].tolist()
        raise DataError(f"{what}: {len(rows)} of {len(wide)} rows have length 0 (first rows: {first})")
    units: NDArray[np.float64] = wide / lengths
    return units
