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
        return self.root / "texts" / f"{backbone}.h5"

    def result(self, method: str, backbone: str) -> Path:
        """Folder of one method's results with one backbone; below it one folder per split and labels."""
        return self.root / "results" / method / backbone

    def results(self, backbones: Collection[str] | None = None) -> list[Path]:
        """All results folders that there are (of these backbones): by backbone, methods that learn nothing first."""
        found = [path.parent for path in self.root.glob("results/*/*/*/result.json")]
        found = [folder for folder in found if backbones is None or folder.parent.name in backbones]
        return sorted(found, key=lambda f: (f.name, f.parent.name, f.parent.parent.name == "probe", f))

    def metrics(self, method: str, backbone: str) -> Path:
        """One method's numbers, for `dvc metrics show`."""
        return self.root / "metrics" / f"{method}-{backbone}.json"

    def plot(self, method: str, backbone: str) -> Path:
        """One method's confusion, for `dvc plots show`."""
        return self.root / "plots" / f"{method}-{backbone}.csv"

    @property
    def report(self) -> Path:
        """Folder of the page and its tables."""
        return self.root / "report"

    @property
    def timings(self) -> Path:
        """Folder of wall times, one file a stage; facts about this machine, no output of DVC's."""
        return self.root / "timings"
