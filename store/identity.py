"""Identity: everything that decides the value of a feature row, and nothing else.

Two rows may only be mixed, compared or reused when their identities are equal. Provenance (versions,
device, date) is not here: it is recorded beside rows and refuses nobody.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from deponij.store.errors import IdentityError, StoreError

FINGERPRINT_CHARS = 20
# Kinds whose arrays are maps [n, C, h, w], large ones, which are read in parts.
_MAPS = ("dense", "pyramid")
# Ends the kind of maps of the mirrored pictures.
_FLIP = "+flip"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a feature row is a function of, besides its content.

    Attributes:
        backbone: family and architecture, as `family:architecture`; a registry name does not matter.
        weights: SHA-256 of the weights.
        kind: `embedding`, `tokens@K`, `dense@K`, `pyramid@K` (maps also with `+flip`) or `text`.
        transform: canonical text of the pixels' (or, for texts, the tokens') preparation.
        decode: route from encoded bytes to pixels; empty for texts.
        precision: of computing, `fp32`, `bf16` or `fp16`.
        stored: dtype on disk, `float32` or `float16`.
    """

    backbone: str
    weights: str
    kind: str
    transform: str
    decode: str
    precision: str
    stored: str

    @property
    def fingerprint(self) -> str:
        """Name of this identity on disk: 20 hexadecimal characters of BLAKE2b over its canonical JSON."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=FINGERPRINT_CHARS // 2).hexdigest()

    @property
    def is_of_maps(self) -> bool:
        """Whether rows are maps, which stay in the depot."""
        return self.kind.partition("@")[0] in _MAPS

    @property
    def is_mirrored(self) -> bool:
        """Whether rows are maps of the mirrored pictures."""
        return self.kind.endswith(_FLIP)

    @property
    def squashed_px(self) -> tuple[int, int] | None:
        """(height, width) to which whole pictures are squashed, as where another size than the model's own is asked for."""
        try:
            record = json.loads(self.transform)
            height, width = record["resize_px"]
            return (int(height), int(width)) if record["crop_px"] is None else None
        except (ValueError, KeyError, TypeError):
            return None

    def mirrored(self) -> Self:
        """Of the same maps of the mirrored pictures."""
        return replace(self, kind=self.kind + _FLIP)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Parse what `to_json` wrote.

        Raises:
            StoreError: a field is missing, unknown or not a string.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            got = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise StoreError(f"an identity has the fields {sorted(names)}, got {got}")
        wrong = [name for name, value in values.items() if not isinstance(value, str)]
        if wrong:
            raise StoreError(f"identity fields must be strings; these are not: {wrong}")
        return cls(**values)

    def differences(self, other: "Identity", names: Collection[str] = ()) -> list[str]:
        """One line for each field (of these `names`) in which the two differ."""
        return [
            f"{field.name}: {_short(getattr(self, field.name))} against {_short(getattr(other, field.name))}"
            for field in fields(self)
            if (not names or field.name in names) and getattr(self, field.name) != getattr(other, field.name)
        ]

    def require_equal(self, other: "Identity", what: str) -> None:
        """Refuse to go on with features of another identity.

        Raises:
            IdentityError: naming every field that differs.
        """
        if self != other:
            raise IdentityError(f"{what} has another identity: " + "; ".join(self.differences(other)))


def _short(value: str) -> str:
    return value if len(value) <= 72 else value[:60] + "…" + value[-8:]
