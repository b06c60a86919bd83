"""Where a run's files lie below its folder, the same for DVC and for `deponij run`."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

# A results folder lies below its run as results/STAGE/METHOD/BACKBONE/SPLIT-LABELS.
RESULTS_DEPTH = 5


@dataclass(frozen=True)
class Layout:
    """Paths of one run's outputs.

    Attributes:
        root: `runs/<profile>`, or the folder given to `deponij run --out`.
    """

    root: Path

    @classmethod
    def of(cls, profile: str) -> "Layout":
        """The layout that dvc.yaml spells out."""
        return cls(Path("runs") / profile)

    @property
    def items(self) -> Path:
        """Folder of items."""
        return self.root / "items"

    @property
    def splits(self) -> Path:
        """Folder of all splits."""
        return self.root / "splits"

    def split(self, name: str) -> Path:
        """One split's table."""
        return self.splits / f"{name}.parquet"

    def split_report(self, name: str) -> Path:
        """What a split is like: sizes, leaks."""
        return self.splits / f"{name}.json"

    @property
    def weights(self) -> Path:
        """Folder that says what each backbone is, without its weights: NAME.json."""
        return self.root / "weights"

    def view(self, backbone: str) -> Path:
        """Picture features of one backbone."""
        return self.root / "views" / f"{backbone}.h5"

    def texts(self, backbone: str) -> Path:
        """Text vectors of one backbone."""
        return self.root / "views" / "texts" / f"{backbone}.h5"

    @property
    def indexes(self) -> Path:
        """Folder of all search indexes, a folder a backbone."""
        return self.root / "indexes"

    def index(self, backbone: str) -> Path:
        """Search index of one backbone."""
        return self.indexes / backbone

    @property
    def all_results(self) -> Path:
        """Folder of all classifiers' results: STAGE/METHOD/BACKBONE/SPLIT-LABELS."""
        return self.root / "results"

    def results_of(self, stage: str) -> Path:
        """Folder of the results that one stage makes."""
        return self.all_results / stage

    def result(self, method: str, backbone: str, stage: str = "heads") -> Path:
        """Folder of one method's results with one backbone; below it one folder per split and labels."""
        return self.results_of(stage) / method / backbone

    def results(self, backbones: Collection[str] | None = None) -> list[Path]:
        """All results folders that there are (of these backbones), by question and backbone; no ensembles."""
        return self._results(backbones, are_ensembles=False)

    @property
    def ensembles(self) -> Path:
        """Folder of all ensembles' results: HOW/BACKBONES/SPLIT-LABELS. They are made of the other results."""
        return self.results_of("ensembles")

    def ensemble_results(self, backbones: Collection[str] | None = None) -> list[Path]:
        """All ensembles' results folders that there are (of these backbones alone)."""
        return self._results(backbones, are_ensembles=True)

    def _results(self, backbones: Collection[str] | None, *, are_ensembles: bool) -> list[Path]:
        folders = [path.parent for path in self.all_results.glob("*/*/*/*/result.json")]
        folders = [folder for folder in folders if folder.is_relative_to(self.ensembles) == are_ensembles]
        if backbones is not None:
            # Of joined backbones, `a+b`, all must be there.
            folders = [folder for folder in folders if set(folder.parent.name.split("+")) <= set(backbones)]
        return sorted(folders, key=lambda folder: (folder.name, folder.parent.name, folder))

    def metrics(self, stage: str) -> Path:
        """One stage's numbers, for `dvc metrics show`."""
        return self.root / "metrics" / f"{stage}.json"

    def plots(self, what: str) -> Path:
        """Folder of CSV files for `dvc plots show`: `confusion`, `reliability` or `curves`."""
        return self.root / "plots" / what

    @property
    def tables(self) -> Path:
        """Folder of the cells of all tables, and their Markdown."""
        return self.root / "tables"

    def retrieval(self, backbone: str) -> Path:
        """How well pictures of one backbone find pictures, words pictures, and pictures words."""
        return self.root / "retrieval" / f"{backbone}.json"

    def curves(self, backbone: str) -> Path:
        """Learning curves of one backbone."""
        return self.root / "curves" / f"{backbone}.json"

    def mistakes(self, backbone: str) -> Path:
        """Labels worth a second look, by one backbone."""
        return self.root / "mistakes" / f"{backbone}.json"

    def mistake_sheets(self, backbone: str) -> Path:
        """Folder of their pictures: LABELS-suspects.png, LABELS-twins.png, LABELS-confused.png."""
        return self.root / "mistakes" / backbone

    def map(self, backbone: str) -> Path:
        """Places of the items in a plane, by one backbone."""
        return self.root / "maps" / f"{backbone}.parquet"

    @property
    def report(self) -> Path:
        """Folder of the page and its tables."""
        return self.root / "report"

    @property
    def timings(self) -> Path:
        """Folder of wall times, one file a stage; facts about this machine, no output of DVC's."""
        return self.root / "timings"

    def latency(self, backbone: str) -> Path:
        """How long a search of one backbone's index takes on this machine."""
        return self.timings / "searches" / f"{backbone}.json"
