"""Which items are meant by the names of pictures that shall be forgotten, and what an interrupted call had begun."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from deponij.pipeline.pictures import key_of_picture
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import Section
from deponij.project.meant import Meant
from deponij.services.forget.originals import Originals
from deponij.store.atomic import write_bytes
from deponij.store.errors import StoreError, UsageError, explained
from deponij.store.items import Items
from deponij.store.keys import KEY_CHARS, key_of_text
from deponij.store.sealed import read_sealed, sealed
from deponij.store.view import View

JOURNAL = "forgetting.json"
_KEY = re.compile(rf"[0-9a-f]{{{KEY_CHARS}}}")


class Item(Section):
    """One item: what it shows (None where it could not be read), and the photograph that it is of."""

    key: str | None
    photo: str


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to be forgotten.

    Attributes:
        items: by item id.
        keys: of the pictures, and of captions that no other item has.
        captions: ids in views of texts.
    """

    items: Mapping[str, Item]
    keys: frozenset[str]
    captions: frozenset[str] = frozenset()


class _Journal(Section):
    format: int = 1
    items: dict[str, Item]
    keys: tuple[str, ...]
    captions: tuple[str, ...]


def find(meant: Meant, names: Sequence[str]) -> Targets:
    """The items that are named by path, item id, photograph or key, with all that show the same.

    What an earlier call has begun is part of it.

    Raises:
        UsageError: a name is none of these; the message has the nearest.
        StoreError: the items or the journal are damaged.
    """
    at, begun = meant.at, _begun(meant.at)
    there = items_of(at)
    item_of, keys, originals = dict(begun.items), set(begun.keys), Originals.of(meant)
    for name in names:
        ids, key = _named(name, there, originals)
        if not ids and key is None and not (name in item_of or name in keys):
            near = difflib.get_close_matches(name, there, 1)
            hint = (
                f"; did you mean {near[0]!r}?"
                if near
                else f"; its items are called such as {next(iter(there))!r}"
            )
            raise UsageError(
                f"{at.root} has no picture {name!r}: it is no file, item id or key of it (forgotten already?){hint}"
            )
        item_of |= {one: there[one] for one in ids}
        keys |= {key} if key else set()
    keys |= {one.key for one in item_of.values() if one.key is not None}
    item_of |= {item_id: one for item_id, one in there.items() if one.key in keys}
    captions = _captions_of(at, item_of)
    return Targets(item_of, frozenset(keys | set(captions.values())), frozenset({*begun.captions, *captions}))


def items_of(at: Layout) -> dict[str, Item]:
    rows = Items(at.items).table(["item_id", "key", "image_id"]).to_pylist()
    return {row["item_id"]: Item(key=row["key"], photo=row["image_id"] or row["item_id"]) for row in rows}


def _begun(at: Layout) -> _Journal:
    path = at.root / JOURNAL
    if not path.is_file():
        return _Journal(items={}, keys=(), captions=())
    remedy = f"delete it and name the picture again, by its key too (`deponij forget KEY --run {at.root}`)"
    try:
        return _Journal.model_validate(read_sealed(path, remedy))
    except ValidationError:
        raise StoreError(f"{path} is of another version; {remedy}") from None


def _named(name: str, there: Mapping[str, Item], originals: Originals) -> tuple[list[str], str | None]:
    """Items by name, and the key that it is or that its file has."""
    if name in there:
        return [name], None
    if _KEY.fullmatch(name):
        return [], name
    path, ids = Path(name), [item_id for item_id, one in there.items() if one.photo == name]
    if not path.is_file():
        return ids, None
    for item_id, one in there.items():
        if path.name == Path(one.photo).name:
            file = originals.file(one.photo, one.key, is_whole=False)
            ids += [item_id] if file is not None and file.samefile(path) else []
    with explained(f"cannot read {path}"):
        return ids, key_of_picture(path.read_bytes())


def _captions_of(at: Layout, going: Mapping[str, Item]) -> dict[str, str]:
    """Of captions that no other item has: their id in views of texts, and their key."""
    items = Items(at.items)
    columns = {
        column
        for path in at.texts("any").parent.glob("*.h5")
        for column in set(View(path).columns.get("caption_column", ())) - {""}
    }
    captions: dict[str, str] = {}
    for column in sorted(columns & set(items.column_names)):
        values = list(zip(items.ids, items.column(column), strict=True))
        others = {text for one, text in values if one not in going}
        gone = {str(text) for one, text in values if one in going and text is not None and text not in others}
        captions |= {f"{column}={key_of_text(text)}": key_of_text(text) for text in gone}
    return captions


def begin(at: Layout, targets: Targets) -> None:
    """Write down what is to be forgotten, before anything goes."""
    journal = _Journal(
        items=dict(targets.items), keys=tuple(sorted(targets.keys)), captions=tuple(sorted(targets.captions))
    )
    write_bytes(at.root / JOURNAL, sealed(journal.model_dump()))


def done(at: Layout) -> None:
    """All of it is over: the names and keys go too."""
    (at.root / JOURNAL).unlink(missing_ok=True)
