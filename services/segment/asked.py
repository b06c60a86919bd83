"""What a user asks `deponij segment` for: words or a trained decoder, and how often a picture is looked at. No stage.

Here is no tensor and no model; flags that do not go together are refused before anything is loaded.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deponij.pipeline.segmenting.pictures import colours_of_words
from deponij.pipeline.segmenting.segmenter import Ways
from deponij.pipeline.segmenting.windows import MAX_SCALE, Size, check_overlap
from deponij.store.errors import DataError, UsageError
from deponij.store.label_maps import SceneClass, check_classes

# Of words: a map of a whole picture in one window is coarse.
_SCALES_OF_WORDS = (2.0,)
_MAX_SCALES = 8
_WINDOW = re.compile(r"(\d+)(?:x(\d+))?")
WHAT_TO_DO = (
    "name pictures or folders of them, and what to look for: --classes 'road, car, sky' (or --classes-file FILE), "
    "--query 'bicycle' for one heat map, or --model FOLDER for a trained decoder"
)


@dataclass(frozen=True, slots=True)
class Words:
    """Classes by words.

    Attributes:
        classes: that are looked for; of a heat map one.
        background: words for everything else.
        templates: that words are filled into.
        is_query: one heat map instead of a label map.
    """

    classes: tuple[SceneClass, ...]
    background: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("photo",)
    is_query: bool = False


@dataclass(frozen=True, slots=True)
class Looking:
    """How pictures are looked at; None: as suits what segments.

    Attributes:
        overlap: share of a window's side.
        window_px: (height, width) of windows; of words alone.
        threshold: least probability of an answer; below it a pixel is none of the classes.
    """

    scales: tuple[float, ...] | None = None
    flip: bool = False
    overlap: float = 0.5
    window_px: Size | None = None
    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_overlap(self.overlap)
        if not 0 <= self.threshold < 1:
            raise UsageError(f"--threshold is a probability from 0 to below 1, got {self.threshold:g}")

    def ways(self, *, of_words: bool) -> Ways:
        """How often each picture is looked at."""
        if self.scales is not None:
            return Ways(self.scales, self.flip)
        return Ways(_SCALES_OF_WORDS if of_words else (1.0,), self.flip, enlarge=False)


def words_of(
    classes: str | None,
    classes_file: Path | None,
    query: str | None,
    background: str | None,
    templates: Sequence[str] = (),
) -> Words | None:
    """What is asked for by words; None where nothing is.

    Raises:
        UsageError: several ways to name classes, none in any of them, or classes that cannot be told apart.
    """
    given = [one for one in (classes, classes_file, query) if one is not None]
    if not given:
        if background or templates:
            raise UsageError(f"--background and --template go with words; {WHAT_TO_DO}")
        return None
    if len(given) > 1:
        raise UsageError("--classes, --classes-file and --query each say what to look for; give one of them")
    if background is not None and not _names(background):
        raise UsageError(
            "--background is empty; give words for what is none of the classes, as 'background, ground'"
        )
    others = _names(background or "")
    if query is not None:
        return make_words([query], others, templates, "--query", is_query=True)
    if classes is not None:
        return make_words(_names(classes), others, templates, "--classes")
    return make_words(_lines(classes_file), others, templates, "--classes-file")


def make_words(
    names: Sequence[str],
    background: Sequence[str] = (),
    templates: Sequence[str] = (),
    flag: str = "classes",
    *,
    is_query: bool = False,
) -> Words:
    """Classes of names.

    Args:
        flag: what named them, for messages.

    Raises:
        UsageError: none, or classes that cannot be told apart.
    """
    others = [one for name in background if (one := _spoken(name))]
    classes = _classes([one for name in names if (one := _spoken(name))], others, flag)
    if len(classes) == 1 and not others and not is_query:
        raise UsageError(
            f"of one class alone every pixel is {classes[0].name!r}; name more, or --background WORDS for everything else, "
            f"or ask for its heat map: --query {classes[0].name!r}"
        )
    return Words(classes, tuple(others), tuple(templates) or ("photo",), is_query)


def scales_of(text: str | None) -> tuple[float, ...] | None:
    """`1, 1.5` as numbers.

    Raises:
        UsageError: no numbers, too many, or out of range.
    """
    if text is None:
        return None
    try:
        scales = tuple(float(one) for one in text.split(","))
    except ValueError:
        scales = ()
    is_fine = all(math.isfinite(one) and 1 <= one <= MAX_SCALE for one in scales)
    if not 1 <= len(scales) <= _MAX_SCALES or not is_fine:
        raise UsageError(
            f"--scales are 1 to {_MAX_SCALES} numbers from 1 to {MAX_SCALE:g} with commas between them, got {text!r}"
        )
    return tuple(dict.fromkeys(scales))


def window_of(text: str | None) -> Size | None:
    """`448` or `360x480` (height x width) as sides.

    Raises:
        UsageError: neither.
    """
    if text is None:
        return None
    match = _WINDOW.fullmatch(text.strip())
    if match is None or not all(16 <= int(side) <= 4096 for side in match.groups() if side):
        raise UsageError(f"--window is a side in pixels or HEIGHTxWIDTH, each 16 to 4096, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for one in text.split(",") if (name := _spoken(one)))


def _spoken(text: str) -> str:
    """Words on one line, single spaces between them."""
    return " ".join(text.split())


def _lines(path: Path | None) -> tuple[str, ...]:
    assert path is not None
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(f"--classes-file {path} cannot be read: {reason}") from None
    return tuple(name for line in content.splitlines() if (name := _spoken(line)))


def _classes(names: Sequence[str], others: Sequence[str], flag: str) -> tuple[SceneClass, ...]:
    if not names:
        raise UsageError(
            f"{flag} names nothing; give words, as in --classes 'road, car, sky' or --query 'bicycle'"
        )
    classes = [SceneClass(*pair) for pair in zip(names, colours_of_words(len(names)), strict=True)]
    try:
        check_classes(classes)
    except DataError as error:
        raise UsageError(f"{flag}: {error}") from error
    known = {name.casefold() for name in names}
    if twice := [one for one in others if one.casefold() in known]:
        raise UsageError(
            f"{', '.join(map(repr, twice))} is a class and --background; leave it out of one of them"
        )
    return tuple(classes)
