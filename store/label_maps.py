"""One label map: what each pixel of a picture shows, as class numbers; and the classes that they number.

    [h, w] uint8    0 … C-1 in the order of the classes, VOID where nothing is said

On disk it is a PNG with a palette, which any program shows in the classes' colours. Many of them with their pictures are
a folder of scenes (`deponij.store.scenes`).
"""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from deponij.store.errors import DataError, StoreError, blame_nothing
from deponij.store.texts import is_storable, one_line

VOID = 255
MAX_CLASSES = 255
# Pascal VOC's: black is the colour of a class in too many data sets.
VOID_COLOUR = (224, 224, 192)
# What Pillow raises over damaged files.
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError)

Labels = npt.NDArray[np.uint8]  # [h, w]
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class SceneClass:
    """What a pixel may show.

    Attributes:
        name: as the data set calls it.
        colour: red, green, blue, 0 to 255, in label maps and overlays.
        description: a sentence or less, for vectors of texts; empty where there is none.
        words: the name as people say it, for vectors of texts too: `sign symbol`; empty where the name is said so.
    """

    name: str
    colour: Colour
    description: str = ""
    words: str = ""

    @property
    def spoken(self) -> str:
        """What stands in a prompt for it."""
        return self.words or self.name


def check_classes(classes: Sequence[SceneClass]) -> None:
    """Refuse classes that cannot be numbered or told apart.

    Raises:
        DataError: none, more than `MAX_CLASSES`, a name that is empty, doubled or no text, a colour that is none.
    """
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise DataError(f"label maps have 1 to {MAX_CLASSES} classes, got {len(classes)}")
    names = [one.name for one in classes]
    twice = sorted(
        name for name, count in Counter(name.strip().casefold() for name in names).items() if count > 1
    )
    if twice:
        raise DataError(f"classes must have names of their own; {', '.join(map(repr, twice))} occurs twice")
    for one in classes:
        if not one.name.strip() or not is_storable(one.name) or one_line(one.name) != one.name:
            raise DataError(f"a class cannot be named {one.name!r}; names are text on one line")
        if not is_storable(one.description + one.words):
            raise DataError(f"words or description of class {one.name!r} are no valid Unicode")
        if len(one.colour) != 3 or not all(0 <= value <= 255 for value in one.colour):
            raise DataError(f"class {one.name!r} has colour {one.colour}; expected three numbers of 0 to 255")


def encode_labels(labels: Labels, classes: Sequence[SceneClass]) -> bytes:
    """A label map as a PNG with the classes' colours as its palette; `VOID` is pale.

    Raises:
        DataError: it is no [h, w] of 8 bits, or numbers a class that there is not.
    """
    if labels.ndim != 2 or labels.dtype != np.uint8 or labels.size == 0:
        raise DataError(f"a label map is [h, w] of uint8, got {labels.dtype} {labels.shape}")
    _check_numbers(labels, len(classes))
    image = Image.fromarray(np.ascontiguousarray(labels))
    colours = [one.colour for one in classes]
    colours += [VOID_COLOUR] * (VOID + 1 - len(colours))
    image.putpalette([value for colour in colours for value in colour])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def decode_labels(data: bytes, n_classes: int, where: str) -> Labels:
    """What `encode_labels` made, [h, w].

    Args:
        where: it lies, for messages.

    Raises:
        StoreError: it is damaged, or something else.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.mode not in ("P", "L"):
                raise StoreError(
                    f"{where} is damaged: a PNG of mode {image.mode} instead of a palette's numbers"
                )
            labels = np.array(image, dtype=np.uint8)
        _check_numbers(labels, n_classes)
    except (*_DAMAGED, DataError) as error:
        blame_nothing(error, f"{where} cannot be decoded")
        raise StoreError(f"{where} is damaged: {error}; make the scenes again") from error
    return labels


def pixel_counts(labels: Labels) -> npt.NDArray[np.int64]:
    """[256] how many pixels have each number; the last is `VOID`."""
    # NumPy's would make eight bytes of each pixel first.
    return np.array(Image.fromarray(labels).histogram(), np.int64)


def _check_numbers(labels: Labels, n_classes: int) -> None:
    wrong = [number for number in np.flatnonzero(pixel_counts(labels)).tolist() if n_classes <= number < VOID]
    if wrong:
        raise DataError(f"a label map numbers the classes {wrong}, of which there are {n_classes}, from 0")
