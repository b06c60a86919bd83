"""The run that a command means where its files are not named: the one way to find it, and what is taken of it.

`--run FOLDER` names it; else it is the last run that finished in this folder, by `deponij run` or by `dvc repro`; else
that of the profile in force. Of a run with several backbones the one of the classifier that validation chooses is
meant, for words the first in that order that knows words. Everybody says what was taken in one line (`Meant.said`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import PARAMS_FILE, load
from deponij.project.frame.toys import toys_of
from deponij.project.in_force import InForce, profile_of, run_of
from deponij.project.last_run import last_run, others, record_of
from deponij.project.learning.candidates import Candidate, candidates
from deponij.store.errors import StoreError, UsageError
from deponij.store.index_folder import CARD
from deponij.store.texts import one_line
from deponij.store.what_is import instead

_MAKE = "`deponij run --folder PICTURES`"


@dataclass(frozen=True)
class Meant:
    """A run.

    Attributes:
        at: where its files lie.
        made_by: the parameters that it was made by; None where nothing says them.
        finished: when; None where nothing says it.
        is_in_force: it is that of the profile in force.
    """

    at: Layout
    made_by: InForce | None
    finished: datetime | None
    is_in_force: bool

    def said(self, used: str) -> str:
        """One line: `of runs/mine, finished 12 minutes ago: index of dinov2-base`."""
        when = f", finished {ago(self.finished)}" if self.finished else ""
        if not when and self.is_in_force:
            when = ", the profile in force"
        return f"of {one_line(str(self.at.root))}{when}: {used}"

    @cached_property
    def ranked(self) -> list[Candidate]:
        """Its heads' results, the chosen one first; of its first labels and split."""
        return candidates(self.at, self.made_by, must_say=False)

    @cached_property
    def backbones(self) -> list[str]:
        """Whose features it has, that of the chosen classifier first, toys last."""
        toys = toys_of(self.at.weights)
        if self.made_by is not None:
            known = list(self.made_by.backbones)
        else:
            known = sorted(path.stem for path in self.at.root.glob("views/*.h5"))
        chosen = [name for folder, _ in self.ranked if (name := folder.parent.name) in known]
        listed = sorted(known, key=lambda name: name in toys)
        return list(dict.fromkeys([*chosen, *listed]))

    @property
    def labels(self) -> str | None:
        """The label column that it was made for, the first of several."""
        if self.made_by is not None:
            return next(iter(self.made_by.labels), None)
        return next((result.labels for _, result in self.ranked), None)

    @property
    def why_no_labels(self) -> str:
        """Why nothing here is of one label an item; for messages."""
        sets = () if self.made_by is None else self.made_by.label_sets
        holds = f"its labels ({', '.join(sets)}) are several an item" if sets else "it learned from no labels"
        return f"{self.at.root} has no column of one label an item: {holds}"

    @property
    def splits(self) -> dict[str, Path]:
        """Its split tables by name."""
        if self.made_by is not None:
            named = {name: self.at.split(name) for name in self.made_by.splits}
            return {name: path for name, path in named.items() if path.is_file()}
        return {path.stem: path for path in sorted(self.at.splits.glob("*.parquet"))}

    def require(self, backbone: str) -> None:
        """Refuse a backbone that is none of the run's.

        Raises:
            UsageError: naming those it has.
        """
        if backbone not in self.backbones:
            raise UsageError(
                f"{self.at.root} has no backbone {backbone!r}; it has {', '.join(self.backbones)}"
            )

    def view(self, backbone: str | None = None) -> Path:
        """The picture features of this backbone, else of the chosen one.

        Raises:
            UsageError: it has no such backbone.
            StoreError: it has no features.
        """
        return self.at.view(self._one(backbone, [n for n in self.backbones if self.at.view(n).is_file()]))

    def maps(self) -> Path:
        """The patch tokens of the first backbone that has some stored.

        Raises:
            UsageError: none has.
        """
        for name in self.backbones:
            if self.at.maps(name).is_file():
                return self.at.maps(name)
        raise UsageError(
            f"{self.at.root} has no stored patch tokens, which this head reads: name backbones under `patch_tokens` in its "
            "profile, or make a view (`deponij extract --kind dense@1`) and name it with --features"
        )

    def index(self, backbone: str | None = None, *, for_words: bool = False) -> Path:
        """The index of this backbone, else of the chosen one; `for_words`: that can be asked with words.

        Raises:
            UsageError: it has no such backbone, or none that knows words.
            StoreError: it has no index.
        """
        there = [name for name in self.backbones if (self.at.index(name) / CARD).is_file()]
        if backbone is None and for_words and there:
            wordy = [name for name in there if self._knows_words(name)]
            if not wordy:
                raise UsageError(
                    f"{self.at.root} has no backbone with a text tower, so it cannot be asked with words; ask with a "
                    "picture (`deponij query image FILE`), or run again with one (`deponij backbones` tells which)"
                )
            there = wordy
        return self.at.index(self._one(backbone, there, "index"))

    def indexes(self, backbones: Collection[str] = ()) -> list[Path]:
        """Of these backbones, else all that there are, the chosen one's first.

        Raises:
            UsageError: it has no such backbone.
            StoreError: it has no index.
        """
        if backbones:
            return [self.index(name) for name in backbones]
        there = [name for name in self.backbones if (self.at.index(name) / CARD).is_file()]
        self._one(None, there, "index")
        return [self.at.index(name) for name in there]

    def _knows_words(self, backbone: str) -> bool:
        named = self.made_by.text_backbones if self.made_by is not None else ()
        return backbone in named or self.at.texts(backbone).is_file()

    def _one(self, backbone: str | None, there: list[str], what: str = "features") -> str:
        if backbone is not None:
            self.require(backbone)
            return backbone
        if there:
            return there[0]
        where = self.at.indexes if what == "index" else self.at.view("*").parent
        again = "`dvc repro`" if self.is_in_force else "`deponij run`, into it,"
        lacking = "there is no index" if what == "index" else "there are no features"
        raise StoreError(f"{lacking} in {where}; {again} makes them")


def run_meant(named: Path | None = None) -> Meant:
    """The run of this folder, else the last one that finished here, else that of the profile in force.

    Raises:
        UsageError: the folder is no run, or nothing says which one is meant.
        StoreError: the last run is gone, what points at it is damaged, or the profile's was never made.
    """
    if named is not None:
        at = Layout(named)
        if not at.items.is_dir():
            raise UsageError(
                f"{named} is no folder of a run: there is no {at.items}; name one such as runs/mine{others()}, or make "
                f"it: {_MAKE[:-1]} --out {named}`{instead(named)}"
            )
        return _opened(at)
    at_last = last_run()
    if at_last is not None:
        return _opened(at_last)
    if not PARAMS_FILE.is_file():
        raise UsageError(
            f"no run has finished in this folder, and no profile is in force (there is no {PARAMS_FILE}); name a run "
            f"with --run FOLDER{others()}, or make one of your pictures: {_MAKE}"
        )
    at = load(InForce).layout
    if not at.items.is_dir():
        raise StoreError(
            f"{at.root}, the run of the profile in force, was not made yet; make it: `dvc repro`, or name another with "
            f"--run FOLDER{others()}, or make one of your pictures: {_MAKE}"
        )
    return _opened(at)


def is_meant(at: Layout) -> bool:
    """Whether this run is the one that commands mean where none is named."""
    try:
        return run_meant().at.root.resolve() == at.root.resolve()
    except (UsageError, StoreError):
        # Nothing is meant, or what is cannot be had; the commands say so.
        return False


def made_by(at: Layout) -> InForce | None:
    """The parameters of a run: those of the profile in force, where it is of it; else what it wrote down.

    Raises:
        StoreError: what it wrote down is damaged.
    """
    return _opened(at).made_by


def _opened(at: Layout) -> Meant:
    profile, record = profile_of(at), record_of(at)
    known = profile or (None if record is None else record.made_by)
    return Meant(at, known, None if record is None else record.finished, profile is not None)


def ago(when: datetime) -> str:
    """How long ago, in one unit: `12 minutes ago`."""
    seconds = max(0.0, (datetime.now(UTC) - when).total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            n = int(seconds // size)
            return f"{n} {unit}{'' if n == 1 else 's'} ago"
    return "just now"


@dataclass(frozen=True)
class Inputs:
    """What something is learned from or measured on.

    Attributes:
        features: views.
        texts: the view of text vectors, where the backbone has one.
        said: in one line, which run's these are; None where all were named.
    """

    features: tuple[Path, ...]
    items: Path
    split: Path
    labels: str
    texts: Path | None
    said: str | None


def inputs_meant(
    features: Sequence[Path],
    items: Path | None,
    split: Path | None,
    labels: str | None,
    *,
    of_run: Path | None = None,
    for_words: bool = False,
    for_maps: bool = False,
) -> Inputs:
    """What was named; what was not, of the run that the first view is part of, else of the run that is meant.

    Args:
        for_words: where no view is named, take that of a backbone that knows words.
        for_maps: where no view is named, take one of patch tokens.

    Raises:
        UsageError: something is neither named nor known of a run.
        StoreError: the run has no such files.
    """
    if features and items is not None and split is not None and labels is not None:
        return Inputs(tuple(features), items, split, labels, None, None)
    at = run_of(features[0]) if features and of_run is None else None
    if features and at is None and of_run is None:
        raise UsageError(
            f"{features[0]} is no part of a run, so name all of --features, --items, --split and --labels"
        )
    meant = run_meant(at.root if at is not None else of_run)
    if features:
        views = tuple(features)
    elif for_maps:
        views = (meant.maps(),)
    else:
        views = (meant.at.view(meant.index(for_words=True).name) if for_words else meant.view(),)
    split = split or next(iter(meant.splits.values()), None)
    labels = labels or meant.labels
    if split is None or labels is None:
        lacking = "no split" if split is None else "no label column"
        raise UsageError(
            f"{meant.at.root} has {lacking}; name one with --{'split' if split is None else 'labels'}"
        )
    backbones = [view.parent.name if for_maps and not features else view.stem for view in views]
    names, texts = ", ".join(backbones), meant.at.texts(backbones[0])
    said = meant.said(f"features of {names}, split {split.stem}, labels {labels}")
    return Inputs(views, items or meant.at.items, split, labels, texts if texts.is_file() else None, said)
