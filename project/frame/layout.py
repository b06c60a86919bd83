"""Where a run's files lie below its folder, the same for DVC and for `deponij run`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from deponij.store.atomic import PART

# A results folder lies below its run as results/STAGE/METHOD/BACKBONE/SPLIT-LABELS.
RESULTS_DEPTH = 5
# A decoder's as segmentation/DECODER/BACKBONE/WORDS.
SEGMENTATION_DEPTH = 4


@dataclass(frozen=True)
class _Place:
    """A path below a run's folder."""

    path: str

    def __get__(self, at: "Layout", _: type) -> Path:
        return at.root / self.path


@dataclass(frozen=True)
class _Named:
    """As many paths as there are names (of backbones, splits, stages), each in the place of `{}`."""

    path: str

    def __get__(self, at: "Layout", _: type) -> Callable[[str], Path]:
        return lambda name: at.root / self.path.format(name)


# Folders and files of a run with what is computed from items and features, and can be made again in minutes.
COMPUTED = (
    *("results", "tables", "retrieval", "curves", "maps", "mistakes", "likeness", "answers", "advice"),
    *("report", "plots", "segmentation", "tuned", "top1_percent.json"),
)


@dataclass(frozen=True)
class Layout:
    """Paths of one run's outputs; those with `{}` are asked for by a name, `at.view("dinov2")`.

    Attributes:
        root: `runs/<profile>`, or the folder given to `deponij run --out`.
    """

    root: Path

    items = _Place("items")
    splits = _Place("splits")
    # One split's table, and what it is like: sizes, leaks.
    split = _Named("splits/{}.parquet")
    split_report = _Named("splits/{}.json")
    # What each backbone is, NAME.json, without its weights.
    weights = _Place("weights")
    # The same of those whose maps of scenes are stored.
    dense_weights = _Place("weights/dense")
    # A backbone that a recipe of `finetune` made: its files, and what it has learned from.
    tuned = _Named("tuned/{}")
    # Its record beside its features.
    tuned_record = _Named("views/tuned/{}.json")
    # Of a backbone: picture features, text vectors, search index.
    view = _Named("views/{}.h5")
    texts = _Named("views/texts/{}.h5")
    # Of a backbone whose patch tokens lie in the depot: the view of its maps, and of those of mirrored pictures.
    patch_tokens = _Named("views/patch_tokens/{}")
    indexes = _Place("indexes")
    index = _Named("indexes/{}")
    # All classifiers' results: STAGE/METHOD/BACKBONE/SPLIT-LABELS; ensembles' are made of the others.
    all_results = _Place("results")
    results_of = _Named("results/{}")
    ensembles = _Place("results/ensembles")
    # Of classifiers with several labels an item, whose records are of another form: METHOD/BACKBONE/SPLIT-LABELS.
    multilabel = _Place("results/multilabel")
    # The few numbers that `dvc metrics show` compares; all that a stage counted; CSV files for `dvc plots show`:
    # confusion, reliability, curves.
    compared = _Place("top1_percent.json")
    metrics = _Named("metrics/{}.json")
    plots = _Named("plots/{}")
    # The cells of all tables, and their Markdown.
    tables = _Place("tables")
    # Of a backbone: what is alike and what stands apart, and zero-shot answers to classes that were named.
    likeness = _Named("likeness/{}.json")
    answers = _Named("answers/{}.parquet")
    # Of a backbone: what it finds, learning curves, labels worth a second look and their pictures, places in a plane.
    retrieval = _Named("retrieval/{}.json")
    curves = _Named("curves/{}.json")
    mistakes = _Named("mistakes/{}.json")
    mistake_sheets = _Named("mistakes/{}")
    map = _Named("maps/{}.parquet")
    # Pictures with label maps; a backbone's maps of them, those of the mirrored pictures, and the classes as text vectors.
    scenes = _Place("scenes")
    dense_views = _Place("dense")
    dense = _Named("dense/{}.h5")
    dense_flip = _Named("dense/{}.flip.h5")
    dense_words = _Named("dense/{}.words.h5")
    # What learned from the maps, DECODER/BACKBONE/WORDS; what is still being learned (no output of DVC's).
    segmentation = _Place("segmentation")
    unfinished = _Place("unfinished")
    # When it finished and what it was made by: facts about this machine, as times are (`deponij.project.last_run`).
    record = _Place("run.json")
    # What to do next, and sheets of the pictures that it is about.
    advice = _Place("advice")
    advice_file = _Place("advice/advice.json")
    # The page and its tables.
    report = _Place("report")
    # Wall times of stages and of searches of an index, and what tuning took: facts about this machine, no output of DVC's.
    timings = _Place("timings")
    latency = _Named("timings/searches/{}.json")
    took = _Named("timings/tuning/{}.json")

    @classmethod
    def of(cls, profile: str) -> "Layout":
        """The layout that dvc.yaml spells out."""
        return cls(Path("runs") / profile)

    def maps(self, backbone: str, *, flip: bool = False) -> Path:
        """The view of a backbone's patch tokens, or of those of mirrored pictures."""
        return self.patch_tokens(backbone) / ("flip.h5" if flip else "maps.h5")

    def result(self, method: str, backbone: str, stage: str = "heads") -> Path:
        """Folder of one method's results with one backbone; below it one folder per split and labels."""
        return self.results_of(stage) / method / backbone

    def segmented(self, decoder: str, backbone: str, words: str) -> Path:
        """Result folder of one decoder on one backbone's maps, with one kind of class vectors."""
        return self.segmentation / decoder / backbone / words

    def segmentations(self) -> list[Path]:
        """All result folders of decoders that there are, by decoder, backbone and words."""
        folders = [path.parent for path in self.segmentation.glob("*/*/*/segmentation_result.json")]
        return sorted(folder for folder in folders if folder.suffix != PART)

    def results(self, backbones: Collection[str] | None = None) -> list[Path]:
        """All results folders that there are (of these backbones), by question and backbone; no ensembles."""
        return self._results(backbones, are_ensembles=False)

    def ensemble_results(self, backbones: Collection[str] | None = None) -> list[Path]:
        """All ensembles' results folders that there are (of these backbones alone)."""
        return self._results(backbones, are_ensembles=True)

    def multilabel_results(self, backbones: Collection[str] | None = None) -> list[Path]:
        """Results folders of several labels an item that there are (of these backbones)."""
        folders = [path.parent for path in self.multilabel.glob("*/*/*/multilabel_result.json")]
        kept = [
            one
            for one in folders
            if one.suffix != PART and (backbones is None or one.parent.name in backbones)
        ]
        return sorted(kept, key=lambda folder: (folder.name, folder.parent.name, folder))

    def _results(self, backbones: Collection[str] | None, *, are_ensembles: bool) -> list[Path]:
        folders = [path.parent for path in self.all_results.glob("*/*/*/*/result.json")]
        # What is still being written, or was when its process was killed, has the ending of parts.
        folders = [
            folder
            for folder in folders
            if folder.is_relative_to(self.ensembles) == are_ensembles and folder.suffix != PART
        ]
        if backbones is not None:
            # Of joined backbones, `a+b`, all must be there.
            folders = [folder for folder in folders if set(folder.parent.name.split("+")) <= set(backbones)]
        return sorted(folders, key=lambda folder: (folder.name, folder.parent.name, folder))
