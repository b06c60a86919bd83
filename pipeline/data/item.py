"""What every data adapter yields: one crop or one whole picture, or the reason why there is none."""

from dataclasses import dataclass, field

from deponij.store.references import FileReference


class ToAct(str):
    """A note of a data set that somebody should act on; all others are worth knowing only."""

    __slots__ = ()


class OnlyPart(ToAct):
    """The note of a data set that is not taken as a whole, as asked."""

    __slots__ = ()


MetadataValue = str | int | float | bool | list[float] | list[str] | None


@dataclass(frozen=True, slots=True)
class Item:
    """One row of an items table.

    Attributes:
        item_id: unique and stable, says where the item came from.
        image_id: the photograph it came from, a POSIX path relative to the data set.
        content: encoded bytes (crops: PNG; whole pictures: the original file); None after a failure, and where there
            are no pictures.
        key: content key from `deponij.store.keys`, 40 hexadecimal characters; None after a failure.
        width_px, height_px: of the item, upright; None after a failure.
        phash: 64-bit perceptual hash, 16 hexadecimal characters; None after a failure.
        failure: why there is no content; None when there is.
        given: `train`, `val` or `test` where the data set brings a split.
        metadata: further columns; the same names for every item of a data set.
        reference: the file that the picture lies in, in the place of its content.
    """

    item_id: str
    image_id: str
    content: bytes | None = None
    key: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    phash: str | None = None
    failure: str | None = None
    given: str | None = None
    metadata: dict[str, MetadataValue] = field(default_factory=dict)
    reference: FileReference | None = None
