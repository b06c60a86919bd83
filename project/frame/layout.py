"""Where a run's files lie below its folder, the same for DVC and for `deponij run`."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths of one profile's outputs.

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

    def split(self, name: str) -> Path:
        """One split's table."""
        return self.root / "splits" / f"{name}.parquet"

    def split_report(self, name: str) -> Path:
        """What a split is like: sizes, leaks."""
        return self.root / "splits" / f"{name}.json"

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

    def result(self, method: str, backbone: str) -> Path:
        """Folder of one method's results with one backbone; below it one folder per split and labels."""
        return self.root / "results" / method / backbone

    def results(self, backbones: Collection[str] | None = None) -> list[Path]:
        """All results folders that there are (of these backbones): by backbone, methods that learn nothing first."""
        found = [path.parent for path in self.root.glob("results/*/*/*/result.json")]
        if backbones is not None:
            # Of joined backbones, `a+b`, all must be there.
            found = [folder for folder in found if set(folder.parent.name.split("+")) <= set(backbones)]
        return sorted(found, key=lambda f: (f.name, f.parent.name, f.parent.parent.name == "probe", f))

    def metrics(self, method: str, backbone: str) -> Path:
        """One method's numbers, for `dvc metrics show`."""
        return self.root / "metrics" / f"{method}-{backbone}.json"

    def plot(self, method: str, backbone: str) -> Path:
        """One method's confusion, for `dvc plots show`."""
        return self.root / "plots" / f"{method}-{backbone}.csv"

    def reliability(self, method: str, backbone: str) -> Path:
        """One method's reliability, for `dvc plots show`."""
        return self.root / "plots" / f"{method}-{backbone}-reliability.csv"

    @property
    def all_results(self) -> Path:
        """Folder of all methods' results: METHOD/BACKBONE/SPLIT-LABELS."""
        return self.root / "results"

    def results_of(self, method: str) -> Path:
        """Folder of one method's results with any backbones."""
        return self.all_results / method

    @property
    def ensembles(self) -> Path:
        """Folder of all ensembles' results: HOW/BACKBONES/SPLIT-LABELS. They are made of `results`."""
        return self.root / "ensembles"

    def ensemble_results(self, backbones: Collection[str] | None = None) -> list[Path]:
        """All ensembles' results folders that there are (of these backbones alone)."""
        found = [path.parent for path in self.root.glob("ensembles/*/*/*/result.json")]
        if backbones is not None:
            found = [folder for folder in found if set(folder.parent.name.split("+")) <= set(backbones)]
        return sorted(found, key=lambda f: (f.name, f.parent.name, f))

    @property
    def ensembles_metrics(self) -> Path:
        """Their numbers, for `dvc metrics show`."""
        return self.root / "metrics" / "ensembles.json"

    @property
    def tables(self) -> Path:
        """Folder of the cells of all tables, and their Markdown."""
        return self.root / "tables"

    @property
    def tables_metrics(self) -> Path:
        """Their numbers, for `dvc metrics show`."""
        return self.root / "metrics" / "tables.json"

    def retrieval(self, backbone: str) -> Path:
        """How well pictures of one backbone find pictures."""
        return self.root / "retrieval" / f"{backbone}.json"

    def text_retrieval(self, backbone: str) -> Path:
        """How well words find pictures of one backbone, and pictures words."""
        return self.root / "retrieval" / "texts" / f"{backbone}.json"

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
