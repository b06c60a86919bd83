"""Where the files lie that a run's items were made of. This is no stage; nothing is deleted here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deponij.pipeline.pictures import key_of_picture
from deponij.project.last_run import record_of
from deponij.project.meant import Meant

# Options of data sets that name a folder of pictures, and files beside which they lie.
_FOLDERS = ("images", "folder", "root")
_FILES = ("table", "data", "annotations")
# Options that name files which say what is in which picture, or hold the pictures themselves.
_NAMING = ("table", "annotations", "files", "shards")
# Of Pascal VOC.
_BELOW = ("", "JPEGImages")


@dataclass(frozen=True, slots=True)
class Originals:
    """Files of a data set.

    Attributes:
        bases: folders that the names of photographs may be relative to.
        naming: files that name the photographs, or hold them.
    """

    bases: tuple[Path, ...]
    naming: tuple[Path, ...]

    @classmethod
    def of(cls, meant: Meant) -> "Originals":
        """Of a run; none where nothing says what it was made from.

        Raises:
            StoreError: the run's record is damaged.
        """
        record = record_of(meant.at)
        if meant.made_by is None:
            return cls((), ())

        def at_home(named: object) -> Path:
            if record is None or meant.is_in_force:
                return Path(str(named))
            return record.path(meant.at, str(named))

        options: Mapping[str, Any] = meant.made_by.data.get("options") or {}
        root = meant.made_by.data.get("root")
        named = [*(options.get(name) for name in _FOLDERS), *([root] if root not in (None, ".") else [])]
        bases = [at_home(one) for one in named if one]
        for name in _FILES:
            if options.get(name):
                place = at_home(options[name])
                bases += [place, place.parent]
        naming = [at_home(one) for name in _NAMING for one in _listed(options.get(name))]
        data = meant.made_by.data
        naming += [at_home(one) for one in (*_listed(data.get("corrections")), *_listed(data.get("keep")))]
        given = [params or {} for params in meant.made_by.backbones.values()]
        naming += [at_home(one["given"]) for one in given if one.get("given")]
        # The name of a column, otherwise.
        naming += [path for one in given if one.get("ids") and (path := at_home(one["ids"])).is_file()]
        return cls(tuple(dict.fromkeys(bases)), tuple(dict.fromkeys(naming)))

    def file(self, photo: str, key: str | None, *, is_whole: bool) -> Path | None:
        """The file of a photograph; of a whole picture only one with the content of this key.

        None where it is not there, or another picture lies in its place.
        """
        for base in self.bases:
            for below in _BELOW:
                path = base / below / photo
                if path.is_file() and (not is_whole or key is None or _shows(path, key)):
                    return path
        return None


def _listed(value: object) -> Sequence[object]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _shows(path: Path, key: str) -> bool:
    try:
        return key_of_picture(path.read_bytes()) == key
    except OSError:
        return False
