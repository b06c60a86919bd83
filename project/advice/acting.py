"""The commands that act on advice, exact and with real paths, to be copied into a shell. This is no stage."""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deponij.pipeline.advice.records import Kind
from deponij.pipeline.data.splitting.strategies import SplitParams, strategies

# By adapter, the flags of `deponij run` for its options.
_FLAGS: Mapping[str, Mapping[str, str]] = {
    "folder": {"folder": "--folder"},
    "listed": {
        "table": "--table",
        "images": "--images",
        "path_column": "--path-column",
        "label_separator": "--label-separator",
        "fetch": "--fetch",
    },
    "coco": {"annotations": "--coco", "images": "--images", "boxes": "--boxes"},
    "yolo": {"data": "--yolo"},
    "voc": {"folder": "--voc"},
    "parquet": {"files": "--parquet"},
    "webdataset": {"shards": "--shards", "label_field": "--label-field"},
    "video": {"folder": "--video", "fps": "--fps", "every": "--every"},
    "unpictured": {"table": "--table"},
}
# Of a split, and the strategies that heed them.
_SPLIT_FLAGS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "group_by": ("--group-by", ("random", "group", "given", "folds")),
    "fractions": ("--fractions", ("random", "group")),
    "n_folds": ("--folds", ("folds",)),
}


@dataclass(frozen=True, slots=True)
class Acting:
    """What commands are made from: a run's folder and the parameters that it was made by.

    Attributes:
        root: the run's folder.
        data, backbones, splits, labels, extract, label_sets, classes, finetune: sections of params.yaml.
        under_dvc: it is made by `dvc repro`; its data are watched below `data.root`.
    """

    root: Path
    data: Mapping[str, Any]
    backbones: Mapping[str, Any]
    splits: Mapping[str, Any]
    labels: tuple[str, ...]
    under_dvc: bool
    extract: Mapping[str, Any] = field(default_factory=dict)
    label_sets: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    finetune: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Where decisions are gathered."""
        return (
            Path(self.data.get("root", ".")) / "corrections.csv"
            if self.under_dvc
            else Path("corrections.csv")
        )

    @property
    def files(self) -> list[str]:
        """The corrections that the run was made with, and this one."""
        return list(dict.fromkeys([*self._given, str(self.file)]))

    @property
    def _given(self) -> list[str]:
        return [str(Path(one)) for one in self.data.get("corrections") or ()]

    def take(self, kind: Kind) -> str:
        """Takes what is proposed into the file of corrections."""
        return _line("deponij advice", [str(self.root), "--take", kind, "--into", str(self.file)])

    def look(self, command: str, backbone: str, *more: str) -> str:
        """A command on the features, items and labels of the run."""
        words = [
            "--features",
            str(self.root / "views" / f"{backbone}.h5"),
            "--items",
            str(self.root / "items"),
        ]
        labels = ["--labels", self.labels[0]] if self.labels else []
        return _line(f"deponij {command}", [*words, *labels, *more])

    def suggest(self, *more: str) -> str:
        """What to label first."""
        return _line("deponij suggest", [str(self.root), *more, "--csv", "batch.csv", "--sheet", "batch.png"])

    @property
    def again(self) -> tuple[str, ...]:
        """Run again with the corrections, beside this run, and compare."""
        if self.under_dvc:
            listed = ",".join(self.files)
            return (_line("dvc exp run -S", [f"++data.corrections=[{listed}]"]), "dvc metrics diff")
        new = _next(self.root)
        words = [*self._data(), *self._settings(), *self._split(), "--out", str(new)]
        words += [word for file in self.files for word in ("--corrections", file)]
        return (_line("deponij run", words), _line("deponij compare", [str(self.root), str(new)]))

    @property
    def folded(self) -> str:
        """Run again so that every item is tested once; empty where it was, or where that is not for a flag to say."""
        asked = {str(params.get("strategy")) for params in self.splits.values()}
        if self.under_dvc or "folds" not in strategies() or asked & {"folds", "given"}:
            return ""
        words = [*self._data(), *self._settings(), "--split", "folds", "--out", str(_next(self.root))]
        words += [word for file in self._given for word in ("--corrections", file)]
        return _line("deponij run", words)

    def _data(self) -> list[str]:
        options = self.data.get("options") or {}
        # Where the embeddings are the data, they name them.
        flags = {} if options.get("has_vectors") else _FLAGS.get(str(self.data.get("adapter")), {})
        words = []
        for name, flag in flags.items():
            value = options.get(name)
            for one in value if isinstance(value, (list, tuple)) else [value]:
                words += [] if one is None else [flag, str(one)]
        if options.get("label_columns"):
            words += ["--label-columns", ",".join(options["label_columns"])]
        words += ["--whole"] if options.get("whole") else []
        for name, what in (options.get("treat") or {}).items():
            words += ["--treat", f"{name}={what}"]
        for one in options.get("links_into") or ():
            words += ["--links-into", str(one)]
        if (options.get("crop") or {}).get("keep_crowds"):
            words.append("--keep-crowds")
        for name, flag in (("keep", "--keep"), ("limit", "--limit")):
            if self.data.get(name):
                words += [flag, str(self.data[name])]
        if self.data.get("copy_pictures", "auto") != "auto":
            words += ["--copy", str(self.data["copy_pictures"])]
        return words

    def _settings(self) -> list[str]:
        words = []
        ids: list[str] = []
        for name, params in self.backbones.items():
            if name in self.finetune:
                continue
            if given := (params or {}).get("given"):
                words += ["--embeddings", str(given)]
                ids = ["--ids", str(params["ids"])] if params.get("ids") else ids
            else:
                words += ["--backbone", str((params or {}).get("spec") or name)]
        words += ids
        for recipe in self.finetune.values():
            words += ["--tune", str(recipe.get("recipe", "lora"))]
        columns = (*self.labels, *self.label_sets)
        # A column of this name is the first that is looked for.
        for name in columns if columns != ("label",) else ():
            words += ["--labels", name]
        words += ["--classes", ", ".join(self.classes)] if self.classes else []
        if (precision := self.extract.get("precision", "fp32")) != "fp32":
            words += ["--precision", str(precision)]
        return words

    def _split(self) -> list[str]:
        words = []
        for params in self.splits.values():
            words += ["--split", str(params["strategy"])] if "strategy" in params else []
            words += ["--seed", str(params["seed"])] if params.get("seed") else []
            for name, (flag, asked) in _SPLIT_FLAGS.items():
                usual, value = SplitParams.model_fields.get(name), params.get(name)
                if usual is None or value is None or params.get("strategy") not in asked:
                    continue
                several = list(value) if isinstance(value, (list, tuple)) else [value]
                if value != usual.default and tuple(several) != usual.default:
                    words += [flag, *map(str, several)]
        return words


def _next(root: Path) -> Path:
    """A folder for the run after this one: `mine-2` after `mine`, `mine-3` after that."""
    match = re.fullmatch(r"(.+)-(\d{1,6})", root.name)
    stem, number = (match[1], int(match[2])) if match else (root.name, 1)
    return root.with_name(f"{stem}-{number + 1}")


def _line(command: str, words: Iterable[str]) -> str:
    return f"{command} {shlex.join(words)}"
