"""Pictures, words, items and files as vectors that an index can be asked with. This is no stage.

Words that are stored already (in the run's text view, or in a depot) are looked up without loading any model.
Everything else is encoded by the backbone that made the index, in exactly the way it did.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deponij.project.frame.settings import RunOptions
from deponij.project.in_force import recorded_backbone, run_of
from deponij.project.indexes import Index
from deponij.store.errors import (
    BackboneError,
    DataError,
    IdentityError,
    PictureError,
    StoreError,
    UsageError,
    explained,
)
from deponij.store.identity import Identity
from deponij.store.keys import key_of_text
from deponij.store.texts import is_storable

if TYPE_CHECKING:
    from deponij.pipeline.backbones import Backbone
    from deponij.project.extraction.feature_maker import FoundBackbone
    from deponij.store.view import View

Vector = NDArray[np.floating]
Kind = Literal["image", "text", "item", "vector"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_TEXT = "text"
# The tokenizers cut what is longer than a few dozen words; a book is a mistake.
_MAX_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query.

    Attributes:
        value: path of a picture or a vector's file, words, or an item id.
        weight: of its unit vector in the sum; negative: less like this.
    """

    kind: Kind
    value: str
    weight: float = 1.0


@dataclass
class QueryEncoder:
    """Makes query vectors for one index; a model is loaded once, when it is first needed.

    Attributes:
        index: that is asked.
        options: how to run; its depot is looked in for words.
        spec: where the index's backbone is: registry name, folder or `family:…`; None: as the index's run found it.
        texts: views of text vectors to look in first; None: the run's.
        say: told that a model is being loaded, which takes many seconds.
    """

    index: Index
    options: RunOptions
    spec: str | None = None
    texts: Sequence[Path] | None = None
    say: Callable[[str], object] = lambda _: None

    def vector(self, term: Term) -> Vector:
        """The vector of one term, [d].

        Raises:
            DeponijError: it cannot be read or encoded, or was encoded otherwise than the index.
        """
        if term.kind == "image":
            return self.of_image(_read(Path(term.value)), term.value)
        if term.kind == "text":
            return self.of_text(term.value)
        if term.kind == "item":
            vector: Vector = self.index.vectors([term.value])[0]
            return vector
        return self._of_file(Path(term.value))

    def of_text(self, text: str) -> Vector:
        """Words as a vector: the stored one where there is one.

        Raises:
            BackboneError: the backbone has no text tower; the message says which have one.
        """
        if not text.strip() or len(text) > _MAX_CHARS or not is_storable(text):
            raise UsageError(f"a text is 1 to {_MAX_CHARS:,} characters without NUL, got {len(text):,}")
        stored = self.stored_text(text)
        return self.embed_texts([text])[0] if stored is None else stored

    def stored_text(self, text: str) -> Vector | None:
        """The vector of words that were encoded before; None where they were not."""
        vector = self.text_of_views(text)
        return self._in_depot(text) if vector is None else vector

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode words together, [m, d].

        Raises:
            BackboneError: no text tower, or no weights.
        """
        self.require_text()
        vectors: NDArray[np.float32] = self._model.embed_texts(list(texts)).float().cpu().numpy()
        return vectors

    def of_image(self, content: bytes, name: str) -> Vector:
        """An encoded picture as a vector, decoded and transformed as those of the index were.

        Raises:
            PictureError: it cannot be read.
            IdentityError: this machine's backbone is not the index's.
        """
        vector: Vector = self.embed_pixels([self.pixels(content, name)])[0]
        return vector

    def pixels(self, content: bytes, name: str) -> NDArray[np.float32]:
        """An encoded picture as the model takes it, [3, h, w]; loads no model, safe among threads.

        Raises:
            PictureError: it cannot be read.
        """
        from deponij.pipeline.pictures import decode

        backbone = self._backbone
        transform = backbone.description.transform
        try:
            image = decode(
                content, route=backbone.route, input_px=transform.input_px, keep_alpha=transform.keeps_alpha
            )
        except PictureError as error:
            raise PictureError(f"{name}: {error}") from error
        return transform.apply(image)

    def embed_pixels(self, pixels: Sequence[NDArray[np.float32]]) -> NDArray[np.floating]:
        """Encode what `pixels` gave, [n, d] in the index's own dtype."""
        from deponij.pipeline.backbones import as_batch

        rows = self._model.embed_images(as_batch(pixels)).float().cpu().numpy()
        return rows.astype(self._backbone.identity.stored)

    def load(self) -> None:
        """Load the model now, not when it is first needed.

        Raises:
            BackboneError: it is not here.
            IdentityError: this machine's is not the index's.
        """
        _ = self._model

    def text_of_views(self, text: str) -> Vector | None:
        """The vector of words that are a row of the views; None where they are none."""
        for view in self._text_views:
            rows = np.flatnonzero(view.keys == key_of_text(text))
            if len(rows):
                vector: Vector = view.read([str(view.ids[rows[0]])])[0]
                return vector
        return None

    @cached_property
    def _text_views(self) -> "list[View]":
        """Those of the index's model."""
        from deponij.store.view import View

        paths = self.texts
        if paths is None:
            run = run_of(self.index.path)
            paths = [] if run is None else [p for p in [run.texts(self.index.path.name)] if p.is_file()]
        return [view for view in map(View, paths) if self._speaks(view.identity)]

    def _in_depot(self, text: str) -> Vector | None:
        from deponij.store.depot import FeatureStore

        if "://" not in self.options.depot and not Path(self.options.depot).is_dir():
            return None
        try:
            depot = FeatureStore(self.options.depot)
        except StoreError:
            # A query needs no depot; one that cannot be read is the business of `deponij depot verify`.
            return None
        key = key_of_text(text)
        known = [i for i in depot.identities().values() if self._speaks(i) and not depot.missing(i, [key])]
        # Of several ways to compute, only the index's own precision leaves no doubt.
        known = [i for i in known if i.precision == self.index.identity.precision]
        if len(known) != 1:
            return None
        vector: Vector = depot.read([key], known[0], ["embedding"])["embedding"][0]
        return vector

    def _speaks(self, identity: Identity) -> bool:
        """Whether text vectors of this identity are of the index's model."""
        mine = self.index.identity
        return (identity.kind, identity.backbone, identity.weights) == (_TEXT, mine.backbone, mine.weights)

    @property
    def has_text(self) -> bool:
        """Whether the backbone can encode words; loads no model.

        Raises:
            BackboneError: the backbone is not here.
            IdentityError: this machine's is not the index's.
        """
        return self._backbone.description.has_text

    def require_text(self) -> None:
        """Refuse a backbone that cannot encode words.

        Raises:
            BackboneError: it has no text tower; the message says which backbones have one.
        """
        description = self._backbone.description
        if description.has_text:
            return
        from deponij.pipeline.backbones import list_backbones

        known = [str(row["name"]) for row in list_backbones() if row["has_text"]]
        run = run_of(self.index.path)
        here = (
            []
            if run is None
            else [p.name for p in sorted(run.indexes.glob("*")) if run.texts(p.name).is_file()]
        )
        hint = f"; of this run's indexes, {', '.join(here)} can be asked with words" if here else ""
        raise BackboneError(
            f"{self.index.backbone} ({description.family}) has no text tower, so its index cannot be asked with "
            f"words{hint}. Backbones with one: {', '.join(known)}"
        )

    @cached_property
    def _backbone(self) -> "FoundBackbone":
        from deponij.project.extraction.found_backbones import made_by

        record = recorded_backbone(self.index.path) or {}
        spec = self.spec or str(record.get("spec", self.index.backbone))
        try:
            backbone = made_by(spec, self.index.identity, self.index.backbone)
        except (BackboneError, UsageError) as error:
            raise BackboneError(
                f"{error}\n  (the index {self.index.path} holds vectors of {self.index.backbone}; a folder with its "
                "weights can be named with --backbone-spec FOLDER)"
            ) from error
        self.index.accept(backbone.identity, f"what {spec} makes")
        return backbone

    @cached_property
    def _model(self) -> "Backbone":
        from deponij.project.extraction.feature_maker import FeatureMaker

        maker = FeatureMaker(self._backbone, self.options)
        self.say(f"loading {self.index.backbone} …")
        return maker.model

    def _of_file(self, path: Path) -> Vector:
        vector, identity = read_vector(path)
        if identity is not None:
            self.index.accept(identity, str(path))
        if len(vector) != self.index.vector_index.dim:
            raise IdentityError(
                f"{path} holds a vector of width {len(vector)}, the index {self.index.path} "
                f"({self.index.backbone}) of {self.index.vector_index.dim}: they are of different models"
            )
        return vector


def read_vector(path: Path) -> tuple[Vector, Identity | None]:
    """A vector [d] from a file, and the identity that it was made under where the file says so.

    `.npy`: shape [d] or [1, d]. `.json`: a list of numbers, or `{"vector": […], "identity": {…}}`. `.h5`: a view
    with one row.

    Raises:
        DataError: absent, or none of these.
    """
    if path.suffix == ".h5":
        from deponij.store.view import View

        view = View(path)
        if len(view) != 1:
            raise DataError(f"{path} is a view of {len(view)} items; a query needs one (name it by its id)")
        return view.embedding[0], view.identity
    identity = None
    try:
        if path.suffix == ".npy":
            values: Any = np.load(path, allow_pickle=False)
        else:
            values = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(values, dict):
                identity = Identity.from_dict(values["identity"]) if "identity" in values else None
                values = values["vector"]
        vector = np.asarray(values, np.float64)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, EOFError) as error:
        raise DataError(f"no vector can be read from {path} (.npy, .json or .h5): {error}") from error
    vector = vector[0] if vector.ndim == 2 and len(vector) == 1 else vector
    if vector.ndim != 1 or not len(vector):
        raise DataError(f"{path} must hold one vector of the shape [d], got {list(vector.shape)}")
    return vector, identity


def _read(path: Path) -> bytes:
    with explained(f"{path} cannot be read", DataError):
        return path.read_bytes()
