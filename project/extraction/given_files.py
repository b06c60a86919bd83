"""Given embeddings as a profile names them: a file, its ids, and the hash that it must have. This is no stage."""

from pathlib import Path

from deponij.pipeline.given.files import read_given
from deponij.pipeline.given.vectors import GivenVectors
from deponij.project.extraction.given import FAMILY
from deponij.project.frame.settings import BackboneParams
from deponij.store.errors import DataError, UsageError


def read_of_profile(backbone: BackboneParams) -> GivenVectors:
    """The embeddings of an entry of `backbones:` that names a file.

    Raises:
        UsageError: it names none.
        DataError: the file cannot be used, or has changed since its hash was written down.
    """
    if backbone.given is None:
        raise UsageError("this backbone names no file of given embeddings (`given: FILE`)")
    vectors = read_given(backbone.given, backbone.ids)
    if backbone.sha256 not in (None, vectors.sha256):
        raise DataError(
            f"{backbone.given} has changed: its content is {vectors.sha256}, the profile says {backbone.sha256}; write the "
            "new one as `sha256` to use it"
        )
    return vectors


def record_of(backbone: BackboneParams, *, under_dvc: bool) -> dict[str, object]:
    """What a run writes down of given embeddings, where it writes down of others where their weights lie.

    Raises:
        UsageError: under DVC without a hash, whose change is what DVC can see.
        DataError: as `read_of_profile`.
    """
    vectors = read_of_profile(backbone)
    if under_dvc and backbone.sha256 is None:
        raise UsageError(
            f"DVC does not see whether {backbone.given} has changed; write its content's hash beside it:\n"
            f"  sha256: {vectors.sha256}"
        )
    path = Path(str(backbone.given))
    return {
        "spec": f"{FAMILY}:{path}",
        "family": FAMILY,
        "dim": vectors.dim,
        "text_dim": None,
        "n_rows": len(vectors),
        "weights_sha256": vectors.sha256,
        "source": f"file:{path.name}",
    }
