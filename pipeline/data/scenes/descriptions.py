"""What classes are called in texts, and a description of each, for vectors of texts: files in the folder `descriptions`.

    {"about": "…", "classes": {"SignSymbol": {"words": "sign symbol", "description": "a road sign, …"}}}

The texts were written for this project. A file of one's own has the same form.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from deponij.pipeline.record_lists import Record
from deponij.pipeline.registry import unknown
from deponij.store.errors import DataError
from deponij.store.label_maps import SceneClass

_FOLDER = Path(__file__).with_name("descriptions")
# Between a small letter or figure and a capital, as in `SignSymbol`.
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Words(Record):
    """Texts of one class."""

    words: str = ""
    description: str = ""


class _File(Record):
    about: str = ""
    classes: dict[str, Words]


@dataclass(frozen=True, slots=True)
class Described:
    """Classes with their texts, and which have none."""

    classes: tuple[SceneClass, ...]
    without: tuple[str, ...]


def described_sets() -> tuple[str, ...]:
    """Names of the files that come with the project."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def described(classes: Sequence[SceneClass], said: str | Path | None) -> Described:
    """Classes with what a file says of them; without a file they have readable words and no descriptions.

    Args:
        said: a name that comes with the project, or a file.

    Raises:
        UsageError: neither.
        DataError: no such form, or not one of the classes is in it.
    """
    texts = {} if said is None else _read(said)
    plain = {name.casefold(): one for name, one in texts.items()}
    worded = [(one, texts.get(one.name) or plain.get(one.name.casefold()) or Words()) for one in classes]
    if texts and not any(one.description or one.words for _, one in worded):
        raise DataError(
            f"the descriptions {said} are of none of the classes {', '.join(one.name for one in classes[:5])}, …; they are "
            f"of {', '.join(list(texts)[:5])}, …"
        )
    full = [
        replace(one, words=of.words or readable(one.name), description=of.description) for one, of in worded
    ]
    return Described(tuple(full), tuple(one.name for one in full if said and not one.description))


def readable(name: str) -> str:
    """A name as words: `SignSymbol`, `sign_symbol` and `sign-symbol` become `sign symbol`."""
    words = _CAMEL.sub(" ", name).replace("_", " ").replace("-", " ").split()
    # Abbreviations keep their capitals.
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words)


def _read(said: str | Path) -> dict[str, Words]:
    built_in = _FOLDER / f"{said}.json"
    if str(said) in described_sets():
        path = built_in
    elif Path(said).suffix or Path(said).is_file():
        path = Path(said)
    else:
        raise unknown("descriptions", str(said), [*described_sets(), "a file such as descriptions.json"])
    try:
        return _File.model_validate(json.loads(path.read_bytes())).classes
    except (OSError, ValueError, RecursionError, ValidationError) as error:
        raise DataError(
            f'descriptions {path} cannot be read: {error}; expected {{"classes": {{"NAME": {{"description": "…"}}}}}}'
        ) from error
