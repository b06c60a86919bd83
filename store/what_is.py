"""What a file or folder is, in words, for whoever was given one of another kind than was expected.

A guess by names and first bytes, for messages alone: nothing is held against a checksum, and nothing raises.
"""

from pathlib import Path

_HDF5 = b"\x89HDF\r\n\x1a\n"
_PARQUET = b"PAR1"
# First bytes of what people have lying about.
_MAGIC = (
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK\x03\x04", "a ZIP file (.npz, say)"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
)
# Folders by a file or pattern that they hold, the most telling first.
_FOLDERS = (
    ("items-*.parquet", "a folder of items"),
    ("vectors-*.faiss", "a search index"),
    ("result.json", "a folder of results"),
    ("head.json", "a saved head"),
    ("items/items-*.parquet", "a run"),
    ("format.json", "a depot"),
    ("views/*.h5", "a folder of views"),
)
# Tables by columns that they have, the most telling first.
_TABLES = (
    ({"item_id", "part"}, "a split table"),
    ({"item_id", "image", "key"}, "a table of items (one of the files of a folder of items)"),
    ({"item_id", "pca_x", "tsne_x"}, "a map of embeddings"),
    ({"item_id", "answer", "confidence"}, "a table of answers"),
    ({"item_id", "truth"}, "a table of predictions (one of the files of a folder of results)"),
)


def what_is(path: Path) -> str:
    """`a split table`, `a folder of items`, …; a folder or file of no known kind is called just that; empty for nothing."""
    try:
        if path.is_dir():
            return next((what for name, what in _FOLDERS if next(path.glob(name), None)), "a folder")
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            head = file.read(8)
    except OSError:
        return ""
    if head == _HDF5:
        return _of_hdf5(path)
    if head.startswith(_PARQUET):
        return _of_parquet(path)
    known = next((what for magic, what in _MAGIC if head.startswith(magic)), None)
    return known or ("an empty file" if not head else "a file of another kind")


def instead(path: Path) -> str:
    """`; PATH is a split table`, to stand behind what was expected there; empty where there is nothing at all."""
    what = what_is(path)
    return f"; {path} is {what}" if what else ""


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does; also where there is no such file, which is for others to say."""
    try:
        with path.open("rb") as file:
            return file.read(len(_HDF5)) == _HDF5
    except OSError:
        return True


def _of_hdf5(path: Path) -> str:
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            if b"deponij-view" in bytes(file.attrs.get("format", b"")):
                return "a view of features"
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError):
        return "a damaged HDF5 file"
    return "an HDF5 file, but no view"


def _of_parquet(path: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError, ValueError):
        return "a damaged Parquet file"
    known = next((what for columns, what in _TABLES if columns <= set(names)), None)
    more = ", …" if len(names) > 6 else ""
    return known or f"a table with the columns {', '.join(names[:6])}{more}"
