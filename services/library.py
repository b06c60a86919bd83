"""Deponij as a library: what `import deponij` offers beside the classes of the store.

    run = deponij.open_run("runs/sample")
    X, y, ids = run.examples("mini-openclip", part="train", labels="category", split="group")

Everything here joins by item id and says in a `DeponijError` what there is where a name is wrong. Nothing
is computed anew but by `make_items`, `extract` and `import_embeddings`, which do what the commands of their names do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.given.files import of_frame, read_given
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.pipeline.registry import unknown
from deponij.project.extraction import devices, given
from deponij.project.frame.device import pick_device
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, check
from deponij.project.indexes import Index
from deponij.project.learning.results import read_shared_examples
from deponij.stages import extract as extract_stage
from deponij.stages import items as items_stage
from deponij.store.atomic import read_table
from deponij.store.depot import FeatureStore
from deponij.store.errors import DataError, StoreError, UsageError
from deponij.store.items import CORE, Items
from deponij.store.reading import MapReader, VectorReader
from deponij.store.view import View

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch.utils.data import TensorDataset

    from deponij.pipeline.backbones.contract import Backbone
    from deponij.pipeline.data.feature_dataset import FeatureDataset

# The label column where none is named: image folders and parquet, then COCO files.
_LABEL_COLUMNS = ("label", "category")


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled items and their features, in item order: `X, y, ids = …`.

    Attributes:
        X: float [n, d]; several backbones' features stand side by side.
        y: labels, str [n].
        ids: item ids, str [n].
        parts: `train`, `val` or `test`, str [n].
        classes: sorted names of all classes of the split, so that parts number them alike.
    """

    X: NDArray[np.floating]
    y: NDArray[np.str_]
    ids: NDArray[np.str_]
    parts: NDArray[np.str_]
    classes: tuple[str, ...]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter((self.X, self.y, self.ids))

    def __repr__(self) -> str:
        return f"Labelled({len(self.ids)} x {self.X.shape[1]}, {len(self.classes)} classes)"

    @property
    def codes(self) -> NDArray[np.int64]:
        """Labels as places in `classes`, int64 [n]."""
        return np.searchsorted(np.array(self.classes), self.y).astype(np.int64)

    def frame(self) -> "pd.DataFrame":
        """A row an item: index `item_id`; `label`, `part` and the features as `x0` … `x{d-1}`.

        Raises:
            UsageError: pandas is not installed.
        """
        pandas = _pandas()
        index = pandas.Index(self.ids.tolist(), name="item_id")
        features = pandas.DataFrame(self.X, index=index, columns=[f"x{i}" for i in range(self.X.shape[1])])
        named = pandas.DataFrame({"label": self.y.tolist(), "part": self.parts.tolist()}, index=index)
        return pandas.concat([named, features], axis=1)

    def dataset(self) -> "TensorDataset":
        """A torch data set of (features float32 [d], class number int64), classes numbered as in `classes`."""
        import torch
        from torch.utils.data import TensorDataset

        features = np.array(self.X, np.float32, order="C")
        return TensorDataset(torch.from_numpy(features), torch.from_numpy(self.codes))


class Run:
    """The outputs of one run, below `runs/PROFILE` or the folder of `deponij run --out`.

    Raises:
        StoreError: there is no run; the message names those beside it.
    """

    def __init__(self, path: str | Path) -> None:
        self.layout = Layout(Path(path))
        if not self.layout.items.is_dir():
            raise StoreError(_no_run(self.layout.root))

    def __repr__(self) -> str:
        return f"Run({str(self.layout.root)!r}: {len(self.items)} items, {', '.join(self.backbones) or 'no'} features)"

    @cached_property
    def items(self) -> Items:
        """The items."""
        return Items(self.layout.items)

    @property
    def backbones(self) -> list[str]:
        """Names of the backbones whose features are here."""
        return sorted(path.stem for path in self.layout.view("*").parent.glob("*.h5"))

    @property
    def splits(self) -> list[str]:
        """Names of the splits."""
        return sorted(path.stem for path in self.layout.split("*").parent.glob("*.parquet"))

    def view(self, backbone: str) -> View:
        """Picture features of one backbone.

        Raises:
            UsageError: there are none.
            StoreError: they are damaged.
        """
        self._require("backbone with features", backbone, self.backbones)
        return View(self.layout.view(backbone))

    def index(self, backbone: str) -> Index:
        """One backbone's index; where none was made, an exact one in memory.

        Raises:
            UsageError: there are no such features.
            StoreError: something is damaged.
        """
        view = self.view(backbone)
        if self.layout.index(backbone).is_dir():
            return Index.open(self.layout.index(backbone))
        return Index.of(view, self.items, {name: self.layout.split(name) for name in self.splits})

    def examples(
        self,
        *backbones: str,
        part: str | None = None,
        labels: str | None = None,
        split: str | None = None,
        fold: int | None = None,
    ) -> Labelled:
        """Labelled items of a split that have features, joined by id.

        Args:
            backbones: whose features, side by side in this order; may be left out where there is one.
            part: `train`, `val` or `test`; None: all three (`parts` tells them apart).
            labels: column of the items; None: `label`, else `category`.
            split: its name; may be left out where there is one.
            fold: of a split of folds: parts are those while this one is tested, the next validates and the others
                teach; None: all are `test`.

        Raises:
            UsageError: a name or the fold is wrong or missing; the message lists those there are.
            DataError: no item of this part has a label and features.
            StoreError: something is damaged.
        """
        if part is not None:
            self._require("part", part, PARTS)
        names = backbones or (self._only("backbones with features", self.backbones),)
        split = self._only("splits", self.splits) if split is None else split
        self._require("split", split, self.splits)
        views = [self.view(name) for name in names]
        examples, features = read_shared_examples(
            views, self.items, self.layout.split(split), labels or self._labels()
        )
        if fold is not None:
            examples = _rotation(examples, fold, split)
        elif examples.folds is not None and part not in (None, "test"):
            raise UsageError(
                f"the split {split!r} is of {len(examples.rotations())} folds; say which one is tested, as in fold=0"
            )
        rows = np.arange(len(examples.ids)) if part is None else examples.rows(part)
        if not len(rows):
            raise DataError(f"the split {split!r} has no {part} item with a label and features")
        return Labelled(
            X=np.concatenate([one[rows] for one in features], axis=1),
            y=examples.labels[rows],
            ids=examples.ids[rows],
            parts=examples.parts[rows],
            classes=examples.pool_classes,
        )

    def frame(self) -> "pd.DataFrame":
        """All items, failed ones too: index `item_id`, the items' columns but the pictures, `split_NAME` of each split.

        Raises:
            UsageError: pandas is not installed.
            StoreError: something is damaged.
        """
        _pandas()
        frame: pd.DataFrame = self.items.table().to_pandas().set_index("item_id")
        for name in self.splits:
            parts = read_table(self.layout.split(name), ["item_id", "part"]).to_pandas()
            frame[f"split_{name}"] = parts.set_index("item_id")["part"].reindex(frame.index)
        return frame

    def _labels(self) -> str:
        columns = [name for name in self.items.column_names if name not in CORE.names]
        for name in _LABEL_COLUMNS:
            if name in columns:
                return name
        raise UsageError(f"name a column of labels: {', '.join(columns) or 'but these items have none'}")

    def _only(self, what: str, names: Sequence[str]) -> str:
        if len(names) != 1:
            raise UsageError(
                f"{self.layout.root} has {len(names)} {what}, name one: {', '.join(names) or 'but there is none'}"
            )
        return names[0]

    def _require(self, what: str, name: str, known: Sequence[str]) -> None:
        if name not in known:
            raise unknown(what, name, known)


def _rotation(examples: Examples, fold: int, split: str) -> Examples:
    rotations = examples.rotations()
    if examples.folds is None:
        raise UsageError(f"the split {split!r} has no folds; leave `fold` out")
    if not 0 <= fold < len(rotations):
        raise UsageError(f"the split {split!r} has the folds 0 to {len(rotations) - 1}, got {fold}")
    return rotations[fold]


def open_run(path: str | Path) -> Run:
    """A run's folder: `runs/PROFILE`, or what `deponij run --out` was given.

    Raises:
        StoreError: there is none; the message names those beside it.
    """
    return Run(path)


def open_index(path: str | Path) -> Index:
    """An index that `deponij index` or a run made.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    return Index.open(path)


def load_backbone(
    name: str, *, device: str = "auto", precision: str = "fp32", input_px: tuple[int, int] | None = None
) -> "Backbone":
    """A frozen model, ready to embed pictures and words.

    Args:
        name: of `deponij backbones`, a folder, or a `family:…` form.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        precision: `fp32`, `bf16` or `fp16`.
        input_px: (height, width) other than the model's own, for dense features.

    Raises:
        UsageError: an unknown name, device or precision.
        BackboneError: its weights are not here or do not fit.
    """
    options = _options(device=device)
    chosen = pick_device(options.device)
    return devices.load_backbone(name, chosen, precision, options.n_threads, input_px)


def make_items(out: str | Path, adapter: str, *, workers: int | None = None, **options: Any) -> Items:
    """Turn a data set into items, as `deponij items` and `deponij crop` do.

    Args:
        out: folder to write; an earlier folder of items there is replaced.
        adapter: `folder` (folder=DIR), `coco` (annotations=FILE, images=DIR), `parquet` (files=[…]) …
        options: the adapter's own, as under `data: options:` of a profile.

    Raises:
        UsageError: an unknown adapter or option.
        DataError: not one item could be made. Single pictures that cannot be read are rows with a reason
            (`Items.failures`).
    """
    items_stage.run(adapter, options, out=Path(out), run_options=_options(workers=workers))
    return Items(out)


def extract(
    items: str | Path | Items,
    backbone: str,
    out: str | Path,
    *,
    depot: str | Path | None = None,
    kind: str = "embedding",
    precision: str = "fp32",
    device: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
) -> View:
    """Bring the items' features into a depot, computing what it lacks, and write their view to `out`.

    Args:
        items: a folder of items.
        backbone: as for `load_backbone`.
        kind: `embedding`, `tokens@K`, `dense@K` or `pyramid@K`.
        precision: of computing; both are part of the identity.
        depot, device, batch_size, workers, threads: None: as `DEPONIJ_…` says, else the command's defaults.

    Raises:
        DeponijError: items, backbone or depot cannot be used. Pictures that cannot be read are in `View.failures`.
    """
    options = _options(
        depot=_text(depot),
        device=device,
        batch_size=batch_size,
        workers=workers,
        threads=threads,
    )
    params = check(extract_stage.ExtractParams, {"kind": kind, "precision": precision}, "extract")
    folder = items.path if isinstance(items, Items) else Path(items)
    extract_stage.run(params, items=folder, backbone=backbone, out=Path(out), options=options)
    return View(out, depot=FeatureStore(options.depot))


def dataset(
    view: str | Path | View,
    *,
    targets: Mapping[str, Any] | None = None,
    ids: Sequence[str] | None = None,
    depot: str | Path | None = None,
) -> "FeatureDataset":
    """Features of items as a torch data set, for a DataLoader with any number of workers.

    Args:
        view: of vectors, tokens or maps: a file, or opened.
        targets: item id -> what goes with it; samples are then (features, target).
        ids: which items, in which order; None: all that have features, and a target where there are targets.
        depot: where maps lie; None: the view's own, else as `DEPONIJ_DEPOT` says.

    Raises:
        StoreError: something is missing or damaged; the message says how maps that are missing are had.
        DataError: an id has no target.
    """
    from deponij.pipeline.data.feature_dataset import FeatureDataset

    opened = view if isinstance(view, View) else View(view)
    reader: MapReader | VectorReader = VectorReader(opened)
    if opened.identity.is_of_maps:
        if depot is not None or opened.depot is None:
            opened = View(opened.path)
            opened.open_depot(_options(depot=_text(depot)).depot)
        reader = MapReader(opened)
    if ids is None:
        ids = [item_id for item_id in opened.ids.tolist() if targets is None or item_id in targets]
    opened.rows(ids)
    return FeatureDataset(reader, ids, targets)


def import_embeddings(
    embeddings: "str | Path | pd.DataFrame | pa.Table | NDArray[np.floating]",
    items: str | Path | Items,
    out: str | Path,
    *,
    ids: "str | Path | Sequence[str] | None" = None,
    name: str | None = None,
) -> View:
    """Bring embeddings that were made elsewhere to items, by id, and write their view to `out`.

    Args:
        embeddings: a file (.npy, .npz, Parquet, CSV, HDF5); a frame of pandas or polars or an Arrow table, with a
            column of lists of numbers or numbered columns (x0, x1, …); or an array [n, d]. Numbers of any type are kept
            as float32, float16 as it is.
        items: a folder of items. Rows find theirs by item id, or by a path that ends like it.
        ids: of the rows [n]; a file of them, one a line; or the name of their column.
        name: what the features are called; by default as the file, else `given`.

    Raises:
        DataError: no vectors, ids that are missing or occur twice, another number of them, or none of an item here.
        UsageError: a column that is not there. Items without a usable vector are in `View.failures`.
    """
    table = items if isinstance(items, Items) else Items(items)
    if isinstance(embeddings, (str, Path)):
        if ids is not None and not isinstance(ids, (str, Path)):
            raise UsageError(
                "beside a file, ids are a file or the name of a column; give a frame or an array with them"
            )
        give_file(table, Path(embeddings), Path(out), ids=ids, name=name)
    else:
        column = str(ids) if isinstance(ids, Path) else ids
        given.give(table, of_frame(embeddings, column), name=name or "given", out=Path(out))
    return View(out)


def give_file(
    items: Items, file: Path, out: Path, *, ids: str | Path | None = None, name: str | None = None
) -> given.GivenResult:
    """A file's embeddings as a view of items; what became of them."""
    return given.give(items, read_given(file, ids), name=name or file.stem, out=out)


def _options(**values: str | int | None) -> RunOptions:
    """The environment's options, and over them what was given."""
    known = RunOptions.from_environment().model_dump()
    return check(
        RunOptions, known | {name: one for name, one in values.items() if one is not None}, "options"
    )


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise UsageError("frames need pandas, which is not installed here: pip install pandas") from None
    return pandas


def _no_run(root: Path) -> str:
    near = sorted(str(path.parent) for path in (*root.glob("*/items"), *root.parent.glob("*/items")))
    hint = f"; there is: {', '.join(near)}" if near else "; `deponij run` or `dvc repro` makes one"
    return f"there is no run at {root}: it has no folder of items{hint}"
