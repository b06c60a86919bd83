"""Stage `map`: where each item lies in a plane, by principal components and by t-SNE of each backbone's features.

python -m deponij.stages.map
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field

from deponij.pipeline.maps import EmbeddingMap, embedding_map
from deponij.project.frame.console import bar, say
from deponij.project.frame.harness import for_each, run_stage
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, RunOptions, Section
from deponij.store.atomic import write_table
from deponij.store.errors import UsageError
from deponij.store.view import View


class MapParams(Section):
    """How t-SNE lays out; see `deponij.pipeline.maps.embedding_map`.

    Attributes:
        perplexity: about how many neighbours an item has; clamped to what there is.
        max_items: of more, this many are drawn; the others get a place by principal components only.
        iterations: of t-SNE.
        seed: of the draw and of t-SNE.
    """

    perplexity: float = Field(default=30.0, ge=1, le=500)
    max_items: int = Field(default=5000, ge=5, le=50_000)
    iterations: int = Field(default=750, ge=250, le=10_000)
    seed: int = Field(default=0, ge=0)


class Params(OfBackbones):
    """The sections of params.yaml that this stage reads; of the backbones only their names."""

    map: MapParams = MapParams()


class MapFacts(Section):
    """What was laid out.

    Attributes:
        n, n_tsne: items of the view, and those that t-SNE laid out (0: fewer than five).
        pca_explained: the two components' shares of the variance.
        perplexity: as it was clamped; None without t-SNE.
    """

    backbone: str
    fingerprint: str
    n: int
    n_tsne: int
    pca_explained: tuple[float, float]
    perplexity: float | None
    params: MapParams


def run(params: MapParams, *, features: Path, out: Path | None = None) -> MapFacts:
    """Lay out all items of a view.

    The table has item_id, pca_x, pca_y, tsne_x, tsne_y (float32; null where t-SNE laid nothing out), and
    in its schema's metadata `backbone`, `fingerprint` and `settings` (the returned facts as JSON).

    Args:
        features: a view of kind `embedding`.
        out: Parquet file to write; None writes nothing.

    Raises:
        UsageError: the view holds no vectors.
        DataError: it holds no items, values that are not finite, or the same features everywhere.
    """
    view = View(features)
    if view.kind != "embedding":
        raise UsageError(f"{view.path} holds features of kind {view.kind!r}; a map needs `embedding`")
    with bar(f"map {view.backbone}", params.iterations, "iterations") as advance:
        laid_out = embedding_map(view.embedding, **params.model_dump(), advance=advance)
    facts = MapFacts(
        backbone=view.backbone,
        fingerprint=view.fingerprint,
        n=len(view),
        n_tsne=laid_out.n_tsne,
        pca_explained=laid_out.pca_explained,
        perplexity=laid_out.perplexity,
        params=params,
    )
    if out is not None:
        write_table(out, _table(view, laid_out, facts))
    return facts


def _table(view: View, laid_out: EmbeddingMap, facts: MapFacts) -> pa.Table:
    columns = {"item_id": pa.array(view.ids.tolist(), pa.string())}
    for name, places in (("pca", laid_out.pca), ("tsne", laid_out.tsne)):
        for number, axis in enumerate("xy"):
            values = places[:, number]
            columns[f"{name}_{axis}"] = pa.array(values, pa.float32(), mask=np.isnan(values))
    told = {"backbone": facts.backbone, "fingerprint": facts.fingerprint}
    return pa.table(columns).replace_schema_metadata({**told, "settings": json.dumps(facts.model_dump())})


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every backbone of the profile."""

    def lay_out(backbone: str) -> None:
        facts = run(params.map, features=at.view(backbone), out=at.map(backbone))
        say(f"map {backbone}: {facts.n} items -> {at.map(backbone)}")

    for_each(params.backbones, lay_out)


if __name__ == "__main__":
    run_stage("map", Params, main)
