"""What the server can do, apart from HTTP: search, items, pictures, maps, facts. This is no stage."""

import asyncio
import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import ParamSpec, TypeVar

from deponij.pipeline.retrieval.filters import Condition
from deponij.pipeline.retrieval.vector_index import set_threads
from deponij.project.report.inputs import read_embedding
from deponij.services.search.vectors import QueryEncoder, Vector
from deponij.services.serve import schema
from deponij.services.serve.answers import hit_answer, searched, vote
from deponij.services.serve.columns import class_names, describe_columns, label_columns
from deponij.services.serve.counters import Counters
from deponij.services.serve.limits import Limits, check_pixels, picture_of_base64
from deponij.services.serve.map import NoMapError, ServedMap
from deponij.services.serve.models import NoTextError, ServedModel
from deponij.services.serve.pictures import Pictures, UnknownItemError
from deponij.store.errors import UsageError
from deponij.store.index_folder import ROW

_HIDDEN = (ROW, "key", "phash")
_N_EXAMPLES = 6
_MAX_OTHERS = 500

P = ParamSpec("P")
T = TypeVar("T")


class UnknownBackboneError(UsageError):
    """No index of this name is served."""


@dataclass(frozen=True)
class Served:
    """One index with all that belongs to it.

    Attributes:
        map_path: of its map, or None.
        is_toy: its backbone knows drawings alone.
    """

    name: str
    encoder: QueryEncoder
    map_path: Path | None
    is_toy: bool = False


@dataclass(frozen=True)
class ServiceOptions:
    """How to serve.

    Attributes:
        title: of the page.
        n_threads: for searching and decoding; models have as many of their own.
        labels: columns of labels, the first one shown; others are found in the table.
    """

    title: str = "Deponij"
    n_threads: int = 1
    labels: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


class Service:
    """All indexes, their models and pictures.

    Args:
        served: at least one; all are of the same items.
    """

    def __init__(
        self, served: Sequence[Served], pictures: Pictures, options: ServiceOptions, counters: Counters
    ) -> None:
        self.options = options
        self.limits = options.limits
        self.pictures = pictures
        self._began = time.monotonic()
        # FAISS keeps its number of threads by thread; many searches at a time need but one each.
        self._pool = ThreadPoolExecutor(
            max(2, options.n_threads), "deponij-search", initializer=set_threads, initargs=(1,)
        )
        # All models compute on one thread, so that they do not take the cores from each other.
        self._computing = ThreadPoolExecutor(1, "deponij-encode")
        self.models = {
            one.name: ServedModel(one.name, one.encoder, self._computing, counters) for one in served
        }
        self._maps = {one.name: _map(one) for one in served}
        self._toys = {one.name for one in served if one.is_toy}
        self._loading = Thread(target=self._load, name="deponij-load", daemon=True)
        self._is_closing = False
        counters.waiting.set_function(lambda: sum(model.n_waiting for model in self.models.values()))
        self.pictures.warm()
        for model in self.models.values():
            model.index.count(conditions=[Condition("item_id", "is not null")])
            model.index.listed(1)
        # Items are leafed through in their own order; an index has another one.
        self._orders = {
            name: model.index.vector_rows([item_id for item_id in pictures.rows if item_id in model.index])
            for name, model in self.models.items()
        }

    @property
    def default(self) -> str:
        """Name of the index that is asked where none is named: the first that can be asked with words, but no toy beside
        a real one.
        """
        real = [name for name in self.models if name not in self._toys] or [*self.models]
        able = [name for name in real if self.models[name].has_text is not False]
        return (able or real)[0]

    @property
    def is_loading(self) -> bool:
        """Whether models are being loaded still."""
        return self._loading.is_alive()

    def start(self) -> None:
        """Begin to load the models, aside."""
        self._loading.start()

    def close(self) -> None:
        """Finish what is being computed, and begin nothing more."""
        self._is_closing = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._computing.shutdown(wait=True, cancel_futures=True)

    def _load(self) -> None:
        for model in self.models.values():
            if not self._is_closing:
                model.load()

    async def aside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run on a thread of the pool, so that others are served meanwhile."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: work(*args, **kwargs))

    def model(self, name: str | None) -> ServedModel:
        """By name; the default one for None.

        Raises:
            UnknownBackboneError: there is none of this name.
        """
        chosen = self.default if name is None else name
        if chosen not in self.models:
            raise UnknownBackboneError(
                f"there is no backbone {chosen!r} here; there are {', '.join(self.models)}"
            )
        return self.models[chosen]

    async def search(self, query: schema.Query) -> schema.SearchAnswer:
        """The nearest items.

        Raises:
            DeponijError: a term cannot be made a vector, or a filter cannot be used.
        """
        begin, model = time.perf_counter(), self.model(query.backbone)
        words = [term.value for term in query.terms if isinstance(term, schema.TextTerm)]
        stored = {text: await self.aside(model.stored_text, text) for text in words}
        vectors = await asyncio.gather(*(self._vector(model, term, stored) for term in query.terms))
        facts = schema.QueryFacts(
            stored_text=bool(stored) and all(one is not None for one in stored.values())
        )
        return await self.aside(self._answer, model, query, vectors, facts, begin)

    async def search_picture(
        self, content: bytes, name: str, backbone: str | None, top: int, unique: bool
    ) -> schema.SearchAnswer:
        """The items nearest to an encoded picture.

        Raises:
            DeponijError: it cannot be read, or the model is not there.
        """
        begin, model = time.perf_counter(), self.model(backbone)
        vector = await self._of_picture(model, content, name)
        query = schema.Query(
            terms=[schema.PictureTerm(kind="picture", value=name or "-")], top=top, unique=unique
        )
        facts = schema.QueryFacts(stored_text=False)
        return await self.aside(self._answer, model, query, [vector], facts, begin)

    async def _vector(
        self, model: ServedModel, term: schema.AnyTerm, stored: Mapping[str, Vector | None]
    ) -> Vector:
        if isinstance(term, schema.ItemTerm):
            if term.value not in model.index:
                raise UnknownItemError(f"there is no item {term.value!r} in the index of {model.name}")
            vector: Vector = (await self.aside(model.index.vectors, [term.value]))[0]
            return vector
        if isinstance(term, schema.TextTerm):
            known = stored[term.value]
            if known is None:
                self._require_text(model)
            return await model.of_text(term.value) if known is None else known
        content = await self.aside(picture_of_base64, term.value, self.limits)
        return await self._of_picture(model, content, term.name)

    async def _of_picture(self, model: ServedModel, content: bytes, name: str) -> Vector:
        await self.aside(check_pixels, content, name, self.limits)
        return await model.of_picture(content, name, self.aside)

    def _require_text(self, model: ServedModel) -> None:
        if model.has_text is False:
            able = [name for name, other in self.models.items() if other.has_text]
            hint = (
                f"choose {' or '.join(able)} for words" if able else "no index here can be asked with words"
            )
            raise NoTextError(f"{model.name} has no text tower and cannot be asked with words; {hint}")

    def _answer(
        self,
        model: ServedModel,
        query: schema.Query,
        vectors: Sequence[Vector],
        facts: schema.QueryFacts,
        begin: float,
    ) -> schema.SearchAnswer:
        labels = self._label_column(query.labels)
        hits, voters, n_searched = searched(model.index, self._orders[model.name], query, vectors)
        return schema.SearchAnswer(
            backbone=model.name,
            n_searched=n_searched,
            hits=[hit_answer(hit, labels, is_compared=bool(vectors)) for hit in hits],
            labels=vote(voters, labels),
            query=facts,
            took_ms=round(1000 * (time.perf_counter() - begin), 3),
        )

    def _label_column(self, column: str | None) -> str | None:
        if column is None:
            return next(iter(self.label_columns), None)
        if column not in self.label_columns:
            raise UsageError(
                f"there is no column of labels {column!r}; there are {', '.join(self.label_columns) or 'none'}"
            )
        return column

    @cached_property
    def columns(self) -> list[schema.Column]:
        """To filter by."""
        return describe_columns(self.model(None).index.rows, _HIDDEN)

    @cached_property
    def label_columns(self) -> list[str]:
        """That hold classes."""
        return label_columns(self.columns, self.options.labels)

    def about(self) -> schema.About:
        """What is served."""
        labels = self._label_column(None)
        return schema.About(
            version=importlib.metadata.version("deponij"),
            title=self.options.title,
            backbones=[self._facts(model) for model in self.models.values()],
            default_backbone=self.default,
            columns=self.columns,
            label_columns=self.label_columns,
            has_photographs=self.pictures.has_photographs,
            items=len(self.model(None).index),
            limits=self.limits,
            examples=[] if labels is None else class_names(self.columns, labels, _N_EXAMPLES),
        )

    def _facts(self, model: ServedModel) -> schema.BackboneFacts:
        vectors = model.index.vector_index
        return schema.BackboneFacts(
            name=model.name,
            is_toy=model.name in self._toys,
            family_has_text=model.has_text is not False,
            n=len(model.index),
            dim=vectors.dim,
            kind=vectors.kind.name,
            fingerprint=model.index.identity.fingerprint,
            input_px=model.input_px,
            has_map=self._maps[model.name] is not None,
            status=model.status,
            message=model.message,
        )

    def health(self) -> schema.Health:
        """Whether all is well; `failed` where the loading of models ended without saying how."""
        is_stuck = not self.is_loading and any(model.status == "loading" for model in self.models.values())
        return schema.Health(
            status="failed" if is_stuck or self._is_closing else "loading" if self.is_loading else "ok",
            indexes=[
                schema.IndexHealth(backbone=model.name, status=model.status, message=model.message)
                for model in self.models.values()
            ],
            uptime_s=round(time.monotonic() - self._began, 3),
        )

    def item(self, item_id: str) -> schema.ItemAnswer:
        """One item and its photograph.

        Raises:
            UnknownItemError: there is none.
        """
        if item_id not in self.model(None).index:
            raise UnknownItemError(f"there is no item {item_id!r} here")
        hit = self.model(None).index.listed(1, conditions=(Condition("item_id", "=", item_id),))[0]
        answer = hit_answer(hit, self._label_column(None), is_compared=False)
        return schema.ItemAnswer(
            item_id=answer.item_id,
            key=answer.key,
            metadata=answer.metadata,
            label=answer.label,
            picture=schema.PictureSize(width_px=answer.width_px, height_px=answer.height_px),
            photograph=self._photograph(item_id),
        )

    def _photograph(self, item_id: str) -> schema.Photograph | None:
        pictures = self.pictures
        size_px = pictures.size_px(item_id) if pictures.has_photographs else None
        if size_px is None:
            return None
        label_of = self._label_of
        others = pictures.others(item_id)[:_MAX_OTHERS]
        return schema.Photograph(
            image_id=pictures.image_id(item_id),
            width_px=size_px[0],
            height_px=size_px[1],
            box=pictures.box(item_id),
            items=[
                schema.Neighbour(item_id=other, label=label_of.get(other), box=pictures.box(other))
                for other in others
            ],
        )

    @cached_property
    def _label_of(self) -> Mapping[str, str]:
        column, rows = self._label_column(None), self.model(None).index.rows
        if column is None:
            return {}
        pairs = zip(rows["item_id"].to_pylist(), rows[column].to_pylist(), strict=True)
        return {item_id: str(label) for item_id, label in pairs if label is not None}

    def map(self, backbone: str | None, layout: str | None, labels: str | None) -> schema.MapAnswer:
        """Places of an index's items.

        Raises:
            NoMapError: there is no map, or no such layout.
            UsageError: an unknown backbone or column.
        """
        model, column = self.model(backbone), self._label_column(labels)
        served = self._maps[model.name]
        if served is None:
            raise NoMapError(
                f"there is no map of {model.name} here; the stage `map` makes one for a run's index"
            )
        rows = model.index.rows
        values = (
            [None] * rows.num_rows
            if column is None
            else [None if value is None else str(value) for value in rows[column].to_pylist()]
        )
        return served.answer(model.name, layout, values)


def _map(one: Served) -> ServedMap | None:
    if one.map_path is None or not one.map_path.is_file():
        return None
    served = ServedMap(one.encoder.index, read_embedding(one.map_path)[0])
    return served if served.fits and served.layouts else None
