"""What a tuned backbone has learned from, as a table in its own folder says. This is no stage.

Views of its features carry it along (`deponij.store.view.TUNED_ON`), so that nothing tests a backbone by what it was taught.
"""

from collections.abc import Mapping

from deponij.pipeline.backbones.catalog import parse_spec
from deponij.pipeline.backbones.sources import locate
from deponij.store.atomic import read_table, table_bytes
from deponij.store.errors import StoreError
from deponij.store.sealed import read_sealed, sha256_of

RECORD = "tuned.json"
LEARNED_FROM = "learned_from.parquet"
_REMEDY = "tune it again, or restore the folder"


def learned_from_table(parts: Mapping[str, str]) -> bytes:
    """The table.

    Args:
        parts: key of a picture -> `train`, or `val` where it was chosen on.
    """
    import pyarrow as pa

    rows = sorted(parts.items())
    return table_bytes(pa.table({"key": [key for key, _ in rows], "part": [part for _, part in rows]}))


def learned_from(spec: str, weights_sha256: str | None = None) -> dict[str, str]:
    """Key -> part of the pictures that a backbone was tuned on; none of any other backbone.

    Args:
        weights_sha256: of the weights that the folder has, to be held against its record.

    Raises:
        StoreError: the table is not there, or it or the weights are not those that the folder's record names.
    """
    entry = parse_spec(spec)
    folder = locate(entry).folder if entry.repo is not None else entry.folder
    if folder is None or not (folder / RECORD).is_file():
        return {}
    body, path = read_sealed(folder / RECORD, _REMEDY), folder / LEARNED_FROM
    if weights_sha256 not in (None, body.get("weights_sha256")):
        raise StoreError(f"the weights in {folder} are not those that were tuned; {_REMEDY}")
    files = body.get("files") or {}
    if LEARNED_FROM not in files:
        return {}
    table = read_table(path, ["key", "part"])
    if sha256_of(path.read_bytes()) != files[LEARNED_FROM].get("sha256"):
        raise StoreError(f"{path} is not what {folder / RECORD} was written with; {_REMEDY}")
    return dict(zip(table["key"].to_pylist(), table["part"].to_pylist(), strict=True))
