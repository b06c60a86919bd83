"""Given embeddings from files: NumPy with ids beside it, Parquet, CSV, HDF5; and from frames of pandas, polars and Arrow."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deponij.pipeline.given.tables import of_table
from deponij.pipeline.given.vectors import GivenVectors, given_vectors
from deponij.pipeline.listings import read_listing
from deponij.store.errors import DataError, UsageError, explained

_TABLES = (".parquet", ".pq", ".csv", ".tsv")
_HDF5 = (".h5", ".hdf5", ".hdf")
ENDINGS = (".npy", ".npz", *_TABLES, *_HDF5)


def read_given(path: Path, ids: str | Path | None = None) -> GivenVectors:
    """Embeddings from a file.

    `.npy`: an array [n, d], with `ids`. `.npz`: such an array beside one of ids. Parquet, CSV: see `tables`. HDF5: a dataset
    [n, d] of numbers and one [n] of ids, wherever they lie in it.

    Args:
        ids: a file of ids (text, one a line; or `.npy`), or the name of the column or dataset that holds them.

    Raises:
        DataError: there is no such file, it is damaged, or it does not hold vectors with ids.
        UsageError: another ending, no ids, or a column that is not there.
    """
    if not path.is_file():
        raise DataError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; embeddings are a file ({_allowed()})"
        )
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"embeddings are read from {_allowed()}, got {path}")
    beside = _read_ids(Path(ids)) if ids is not None and Path(ids).is_file() else None
    if ids is not None and beside is None and path.suffix.lower() == ".npy":
        raise DataError(f"there is no file {ids} of ids")
    return reader(path, beside if beside is not None else None if ids is None else str(ids))


def of_frame(frame: Any, ids: Sequence[Any] | str | None = None, where: str = "the frame") -> GivenVectors:
    """Embeddings from a frame of pandas or polars, an Arrow table, or an array with ids.

    Args:
        frame: with a column of lists or numbered columns; or numbers [n, d].
        ids: of the rows, or the name of their column. None: the column that is called like one, else pandas' index.

    Raises:
        DataError: as `read_given`.
        UsageError: it is nothing of these.
    """
    if isinstance(frame, np.ndarray):
        if ids is None or isinstance(ids, str):
            raise UsageError("an array has no ids of its own; give one for each row: ids=[…]")
        return given_vectors(where, list(ids), frame)
    table = _arrow(frame)
    given = ids if ids is None or isinstance(ids, str) else list(ids)
    return of_table(table, where, given)


def _arrow(frame: Any) -> pa.Table:
    if isinstance(frame, pa.Table):
        return frame
    try:
        if hasattr(frame, "to_arrow"):  # polars
            return frame.to_arrow()
        if hasattr(frame, "iloc"):  # pandas, whose index may hold the ids
            return pa.Table.from_pandas(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"the frame's columns cannot be understood: {error}") from error
    raise UsageError(
        f"embeddings come as a frame of pandas or polars, an Arrow table, or an array with ids; got {type(frame).__name__}"
    )


def _allowed() -> str:
    return ", ".join(ENDINGS)


def _load(path: Path) -> Any:
    try:
        with explained(f"{path} cannot be read", DataError):
            return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        why = (
            "it holds pickled objects, which are never loaded" if "allow_pickle" in str(error) else str(error)
        )
        raise DataError(
            f"{path} cannot be read as a NumPy array: {why}; save an array of float32 [n, d]"
        ) from error


def _read_ids(path: Path) -> list[Any]:
    """Ids from a file, in its order."""
    if path.suffix.lower() == ".npy":
        ids = np.asarray(_load(path))
        if ids.ndim != 1 or ids.dtype.kind not in "USiu":
            raise DataError(f"{path} holds {ids.dtype} {list(ids.shape)}; ids are texts or whole numbers [n]")
        return [_text(one) for one in ids.tolist()]
    if path.suffix.lower() in (".parquet", ".pq", ".h5", ".hdf5", ".npz"):
        raise UsageError(f"ids are a text file, one a line, or a .npy; got {path}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as ids, one a line in UTF-8: {error}") from error
    return [line.strip() for line in lines]


def _of_npy(path: Path, ids: list[Any] | str | None) -> GivenVectors:
    if ids is None or isinstance(ids, str):
        raise UsageError(
            f"{path} holds no ids: name a file of them, one a line, with --ids; vectors are never taken by position"
        )
    return given_vectors(str(path), ids, _load(path))


def _of_npz(path: Path, ids: list[Any] | str | None) -> GivenVectors:
    with _load(path) as file:
        try:
            arrays = {name: file[name] for name in file.files}
        except ValueError as error:
            raise DataError(f"{path} holds pickled objects, which are never loaded: {error}") from error
    return _of_arrays(path, arrays, ids)


def _of_table(path: Path, ids: list[Any] | str | None) -> GivenVectors:
    return of_table(read_listing(path), str(path), ids)


def _of_hdf5(path: Path, ids: list[Any] | str | None) -> GivenVectors:
    import h5py

    arrays: dict[str, NDArray[Any]] = {}

    def keep(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset) and (thing.is_virtual or thing.external):
            raise DataError(f"{path}: its {name} lies in another file, which is never read; copy it into one")
        if isinstance(thing, h5py.Dataset) and thing.ndim in (1, 2):
            arrays[name] = thing[:]

    try:
        with h5py.File(path, "r") as file:
            if str(file.attrs.get("format", b"")).find("deponij-view") >= 0:
                raise UsageError(
                    f"{path} is a view of Deponij already, and says which model made it; use it as it is (--features)"
                )
            file.visititems(keep)
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5: {error}") from error
    return _of_arrays(path, arrays, ids)


def _of_arrays(path: Path, arrays: dict[str, NDArray[Any]], ids: list[Any] | str | None) -> GivenVectors:
    """The one array [n, d] of numbers, and its ids: those that are given, else the one array [n] of names."""
    told = ", ".join(f"{name} {one.dtype} {list(one.shape)}" for name, one in arrays.items()) or "nothing"
    flat = {name: one for name, one in arrays.items() if one.ndim == 2 and one.dtype.kind in "fiu"}
    if len(flat) != 1:
        raise DataError(f"{path} must hold one array of numbers [n, d]; it holds {told}")
    (values,) = flat.values()
    if isinstance(ids, str):
        if ids not in arrays:
            raise UsageError(f"{path} has no {ids!r} of ids, and there is no such file; it holds {told}")
        ids = [_text(one) for one in arrays[ids].tolist()]
    if ids is None:
        named = {
            k: v
            for k, v in arrays.items()
            if v.ndim == 1 and v.dtype.kind in "OSUiu" and len(v) == len(values)
        }
        usual = [
            name
            for name in named
            if name.rpartition("/")[2].lower() in ("ids", "id", "item_id", "path", "paths")
        ]
        chosen = usual if len(usual) == 1 else list(named)
        if len(chosen) != 1:
            raise DataError(
                f"{path} must hold one array of {len(values):,} ids; it holds {told}; name it with --ids NAME"
            )
        ids = [_text(one) for one in named[chosen[0]].tolist()]
    return given_vectors(str(path), ids, values)


def _text(value: Any) -> Any:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


_READERS: dict[str, Callable[[Path, Any], GivenVectors]] = {
    ".npy": _of_npy,
    ".npz": _of_npz,
    **dict.fromkeys(_TABLES, _of_table),
    **dict.fromkeys(_HDF5, _of_hdf5),
}
