"""Which names of a data set mean a part of its split: `train`, `val2017`, `test_set`, `data/train-00000-of-00001.parquet`.

Parts are looked for wherever they stand in a path. Where it is not certain what a name means, nothing is guessed:
the reader is asked to say it (`Treatments`). What is done with parts lives in `splitting`.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deponij.store.errors import DataError, UsageError

# What a user says of names (`test`) or of paths below the data set's folder (`cat/test`, `/test`).
Treatment = Literal["train", "val", "test", "class", "skip"]
Treatments = Mapping[str, Treatment]
Folders = tuple[str, ...]

PART_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}
# Words that may stand beside a part's own: they say neither of what nor for whom.
_FILLING = frozenset(
    (
        *("set", "split", "data", "dataset", "part", "partial", "of"),
        *("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos"),
    )
)
# `-00000-of-00001`, with a hash in older files of the hub.
_SHARD = re.compile(r"-\d+-of-\d+(-[0-9a-f]+)?$")
_WORD = re.compile(r"[^\W\d_]+")
_SHOWN = 6
_ASIDE = "skip leaves it out, =train, =val or =test counts it to that part"
_WITHIN = "class makes it no part, =skip leaves it out"


@dataclass(frozen=True, slots=True)
class Place:
    """What the folders of a picture say.

    Attributes:
        given: `train`, `val`, `test`, or None where no folder is a part, or all pictures are of one.
        others: the folders that are neither a part nor above all pictures.
        above: those above all pictures of a data set with parts.
        is_skipped: the user leaves the pictures out.
    """

    given: str | None = None
    others: Folders = ()
    above: Folders = ()
    is_skipped: bool = False


def given_part(name: str) -> str | None:
    """The part that a folder's or a field's name means, as in `Validation` or `test_set`; None for any other."""
    part, rest = _parsed(name)
    return None if rest else part


def places(folders: Iterable[Folders], treatments: Treatments, what: str = "folders") -> dict[Folders, Place]:
    """What the folders of pictures say of them.

    Args:
        folders: of each picture, below the data set's folder.
        treatments: what a user says of names.
        what: the names are of, for messages.

    Raises:
        DataError: it is not certain which folders are parts; the message says what can be done.
    """
    return _Tree(set(folders), treatments, what).places()


def places_of_values(values: Iterable[str], treatments: Treatments, column: str) -> dict[str, Place]:
    """What each value of a column says that is called like parts; nothing where it speaks of something else.

    Raises:
        DataError: as `places`.
    """
    names = {(value,) for value in values if value}
    by_value = {name: place for (name,), place in places(names, treatments, f"values of `{column}`").items()}
    return by_value if any(place.given or place.is_skipped for place in by_value.values()) else {}


def refuse_unknown(treatments: Treatments, names: Iterable[Folders]) -> None:
    """Refuse to be told of what is not there.

    Args:
        names: folders of pictures, or whatever else `treatments` can speak of.

    Raises:
        UsageError: a treatment of another name; the message lists those there are.
    """
    if not treatments:
        return
    paths = {above for one in names for above in _prefixes(one)}
    keys = {key for path in paths for key in (path[-1], "/".join(path), f"/{'/'.join(path)}")}
    if unknown := sorted(set(treatments) - keys):
        known = _listed(path[-1] for path in paths)
        raise UsageError(
            f"nothing here is named {', '.join(map(repr, unknown))} (treat); the names are {known}"
        )


def is_left_out(folders: Folders, treatments: Treatments) -> bool:
    """Whether the user leaves a folder out, or one above it."""
    return any(_said(above, treatments) == "skip" for above in _prefixes(folders))


def parts_of_files(files: Sequence[Path], treatments: Treatments) -> list[Treatment | None]:
    """The part of each file, by its own name or that of a folder which not all files lie in; or `skip`.

    One part alone is no split.

    Raises:
        DataError: folder and file contradict each other, or some files are of a part and others are not.
    """
    # Links stay as they are named: in the hub's cache they lead to files that are named by a hash.
    absolute = [Path(os.path.abspath(path)) for path in files]  # noqa: PTH100
    common = Path(os.path.commonpath([path.parent for path in absolute]))
    inside = [path.relative_to(common) for path in absolute]
    of_files = [_part_of_file(path, treatments) for path in inside]
    parts = sorted({part for part in of_files if part not in (None, "skip")}, key=str)
    strays = [path for path, part in zip(inside, of_files, strict=True) if part is None]
    if parts and strays:
        raise DataError(
            f"some files are named after a part of a split ({', '.join(map(str, parts))}) and others are not: "
            f"{_listed(map(str, strays))}; {_way_out(strays[0].name, _ASIDE)}"
        )
    return of_files if len(parts) > 1 else ["skip" if part == "skip" else None for part in of_files]


def _part_of_file(path: Path, treatments: Treatments) -> Treatment | None:
    parents = path.parts[:-1]
    said = [_said(path.parts[: depth + 1], treatments) for depth in range(len(path.parts))]
    said[-1] = said[-1] or treatments.get(path.stem)
    parts = [one or given_part(name) for one, name in zip(said, parents, strict=False)]
    parts.append(said[-1] or _parsed(path.stem)[0])
    if "skip" in parts:
        return "skip"
    distinct = {part for part in parts if part not in (None, "class")}
    if len(distinct) > 1:
        raise DataError(
            f"{path} lies in a folder of one part and is named after another; {_way_out(path.name, _ASIDE)}"
        )
    return distinct.pop() if distinct else None  # type: ignore[return-value]


class _Tree:
    """The folders of a data set, and which of them are parts."""

    def __init__(self, folders: Collection[Folders], treatments: Treatments, what: str) -> None:
        self._treatments = treatments
        self._what = what
        self._skipped = {one for one in folders if is_left_out(one, treatments)}
        self._folders = sorted(set(folders) - self._skipped)
        self._every = sorted({above for one in self._folders for above in _prefixes(one)})
        self._within: dict[Folders, list[Folders]] = {}
        for one in self._every:
            self._within.setdefault(one[:-1], []).append(one)
        self._parts = {one: part for one in self._every if (part := self._part(one)) is not None}

    def places(self) -> dict[Folders, Place]:
        skipped = {one: Place(is_skipped=True) for one in self._skipped}
        if not self._parts:
            return skipped | {one: Place(None, one) for one in self._folders}
        depth = min(map(len, self._parts))
        self._refuse_strays(depth)
        others = {one: self._others(one, depth) for one in self._folders}
        n_above = _n_shared([names for names in others.values() if names])
        given = {one: self._parts.get(one[:depth]) for one in self._folders}
        # One part alone is no split.
        is_split = len(set(given.values()) - {None}) > 1
        return skipped | {
            one: Place(given[one] if is_split else None, others[one][n_above:], others[one][:n_above])
            for one in self._folders
        }

    def _part(self, path: Folders) -> str | None:
        said = _said(path, self._treatments)
        if said is not None:
            return None if said == "class" else said
        part, rest = _parsed(path[-1])
        if part is None or not rest:
            return part
        # `seg_train` beside `seg_test`: what they share is the data set's name. A class `test tube` stands alone.
        beside = [_parsed(one[-1]) for one in self._within[path[:-1]]]
        is_plain = any(other is not None and not theirs for other, theirs in beside)
        alike = {other for other, theirs in beside if theirs == rest} - {None}
        return part if len(alike) > 1 and not is_plain else None

    def _others(self, path: Folders, depth: int) -> Folders:
        """The names of a path without its part.

        Raises:
            DataError: a second part stands in it.
        """
        if path[:depth] not in self._parts:
            return path
        end = depth
        # Archives often hold a folder of their own name.
        while end < len(path) and self._is_repeated(path[: end + 1]):
            end += 1
        for second in _prefixes(path):
            if len(second) > end and second in self._parts:
                raise DataError(
                    f"in {'/'.join(second)} both {path[depth - 1]!r} and {second[-1]!r} are named after a part of a "
                    f"split; {_way_out('/'.join(second), _WITHIN)}"
                )
        return (*path[: depth - 1], *path[end:])

    def _is_repeated(self, path: Folders) -> bool:
        """Whether it is all that lies in the folder above and says the same."""
        above = path[:-1]
        same = path[-1] == above[-1] or self._parts.get(path) == self._parts.get(above, "")
        return len(self._within[above]) == 1 and same and _said(path, self._treatments) != "class"

    def _refuse_strays(self, depth: int) -> None:
        """Whatever lies beside a part must be one."""
        here = [one for one in self._every if len(one) == depth]
        parts = [one for one in here if one in self._parts]
        strays = [one for one in here if one not in self._parts]
        for above in {one[:-1] for one in parts}:
            stems = {_parsed(one[-1])[1] for one in parts if one[:-1] == above}
            if len(stems) > 1 and all(stems):
                names = _listed(one[-1] for one in parts if one[:-1] == above)
                raise DataError(
                    f"the {self._what} {names} seem to name both a part of a split and a class; arrange the pictures "
                    "as PART/CLASS/NAME.jpg"
                )
        if strays:
            deeper = {one[-1] for one in self._parts if len(one) > depth}
            keys = sorted({_key(one, deeper) for one in parts})
            raise DataError(
                f"{self._what} are named after parts of a split ({_listed(one[-1] for one in parts)}), and beside lie "
                f"others: {_listed(one[-1] for one in strays)}. If the first are none (but classes, say): "
                f"{' '.join(f'--treat {key}=class' for key in keys[:_SHOWN])}. Otherwise {_way_out(strays[0][-1], _ASIDE)}"
            )


def _key(path: Folders, elsewhere: Collection[str]) -> str:
    """What names this folder in `Treatments`, and no other."""
    whole = "/".join(path)
    return path[-1] if path[-1] not in elsewhere else whole if len(path) > 1 else f"/{whole}"


def _parsed(name: str) -> tuple[str | None, Folders]:
    """The part that is named, and the words that say something else, if any."""
    parts, rest = set(), []
    for word in _WORD.findall(_SHARD.sub("", name.strip().lower())):
        part = PART_WORDS.get(word) or PART_WORDS.get(word.removesuffix("set"))
        if part is not None:
            parts.add(part)
        elif word not in _FILLING:
            rest.append(word)
    # COCO's `test-dev` is a test set, and of `train_val` val is taken as of any training part.
    for part, also in (("train", "val"), ("test", "val")):
        if parts == {part, also}:
            return part, tuple(rest)
    return parts.pop() if len(parts) == 1 else None, tuple(rest)


def _said(path: Folders, treatments: Treatments) -> Treatment | None:
    """What the user says of a path, or of its last name wherever that stands."""
    whole = "/".join(path)
    return (
        treatments.get(f"/{whole}")
        or (treatments.get(whole) if len(path) > 1 else None)
        or treatments.get(path[-1])
    )


def _prefixes(path: Folders) -> Iterable[Folders]:
    return (path[: end + 1] for end in range(len(path)))


def _n_shared(paths: Sequence[Folders]) -> int:
    """How many folders lie above all pictures, leaving each at least one."""
    n = 0
    while paths and all(len(path) > n + 1 and path[n] == paths[0][n] for path in paths):
        n += 1
    return n


def _way_out(name: str, choices: str) -> str:
    return f"say what {name!r} is: --treat {name}={choices} (repeatable; `treat: {{{name}: …}}` in a profile)"


def _listed(names: Iterable[str]) -> str:
    every = sorted(set(names))
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(map(repr, every[:_SHOWN])) + more
