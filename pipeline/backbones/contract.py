"""The one contract of every backbone: what it says about itself and what it computes.

Light on purpose: importing this module imports neither torch nor a model library. How a family reads
its files is in that family's module; which families there are is in `registry`.

Shape letters: n pictures, m texts, h and w the input's sides in px, d the embedding's width, k blocks,
t the token's width, c channels of a feature map, h' and w' its sides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import TypeAdapter

from deponij.pipeline.backbones import adapters, limits, weights
from deponij.pipeline.backbones.memory_format import is_convolutional
from deponij.pipeline.backbones.remember import sha256_of_value
from deponij.pipeline.backbones.transform import Transform
from deponij.store.errors import BackboneError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn


PRECISIONS = ("fp32", "bf16", "fp16")
_ALIGNMENT_BYTES = 64  # of torch's own allocations
_N_TEXTS = 256  # texts a forward pass: bounds the memory of long lists


@dataclass(frozen=True, slots=True)
class Description:
    """What a backbone is, known without loading it.

    Attributes:
        name: what the user called it.
        family: registry name of the family.
        architecture: descriptor of the model configuration; equal configurations have equal descriptors,
            whatever they are called.
        dim: width d of an image embedding.
        text_dim: width of a text embedding, or None without a text tower.
        input_px: (height, width) of the input.
        patch_px: side of a patch, or None where there is no patch grid (convolutional towers).
        n_blocks: transformer blocks, or None.
        token_dim: width t of a token, or None without tokens.
        has_class_token: whether `tokens` can be had.
        transform: from a decoded picture to the input.
        weights_sha256: of the weights file, or of the list of its parts' hashes.
        tokenizer_sha256: of what turns text into token ids, or None without a text tower.
        source: where the weights come from: `hf:ORG/REPO`, `package:FOLDER`, `distribution:NAME==VERSION`,
            `new:NETWORK`, `folder:NAME` or `file:NAME`.
        revision: commit of the hub repository, or None for local files.
        library: distribution that runs the model.
    """

    name: str
    family: str
    architecture: str
    dim: int
    text_dim: int | None
    input_px: tuple[int, int]
    patch_px: int | None
    n_blocks: int | None
    token_dim: int | None
    has_class_token: bool
    transform: Transform
    weights_sha256: str
    tokenizer_sha256: str | None
    source: str
    revision: str | None
    library: str

    @property
    def has_text(self) -> bool:
        """Whether `embed_texts` can be had."""
        return self.text_dim is not None

    def to_record(self) -> dict[str, Any]:
        """All fields as JSON values; `from_record` reads them back."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Description:
        """The inverse of `to_record`, also after a round trip through JSON."""
        return TypeAdapter(cls).validate_python(record)


@dataclass(frozen=True, slots=True)
class TowerFacts:
    """What there is to say of a tower's tokens (see `Description`); None and False for convolutional ones."""

    patch_px: int | None = None
    n_blocks: int | None = None
    token_dim: int | None = None
    has_class_token: bool = False


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """One dense map of a batch.

    Attributes:
        name: of the block or stage it came from.
        stride_px: input pixels per cell.
        values: float32 [n, c, h', w'] on the model's device.
    """

    name: str
    stride_px: int
    values: Tensor


@dataclass(frozen=True, slots=True)
class Location:
    """A backbone's files on this machine.

    Attributes:
        name: what the user called it.
        folder: holds the records and, unless `weights_file` is set, the weights.
        weights_file: weights without a folder of their own.
        architecture: configuration of the model library, where the files hold none.
        source, revision: see `contract.Description`.
        adapter: folder of a low-rank adapter that belongs to these weights; None without.
    """

    name: str
    folder: Path | None
    weights_file: Path | None
    architecture: str | None
    source: str
    revision: str | None
    adapter: Path | None = None

    def folder_of(self, family: str, record: str = "config.json") -> Path:
        """The folder.

        Raises:
            BackboneError: there is none, and this family needs one.
        """
        if self.folder is None:
            raise BackboneError(f"{self.name}: {family} needs a folder with {record}, not a single file")
        return self.folder

    @property
    def files(self) -> list[Path]:
        """Everything that the description may depend on."""
        inside = sorted(path for path in self.folder.iterdir() if path.is_file()) if self.folder else []
        of_adapter = [*adapters.files_of(self.adapter)] if self.adapter else []
        return inside + ([self.weights_file] if self.weights_file else []) + of_adapter


class Backbone(ABC):
    """A frozen model in evaluation mode. Every method runs under `torch.inference_mode`.

    Subclasses are families: they say which folders are theirs, describe them and open them. All
    tensors that come out are float32 on the model's device, whatever the precision of the computing.
    """

    family: ClassVar[str]
    library: ClassVar[str]
    weights_names: ClassVar[tuple[str, ...]]
    """Names of a folder's weights, the preferred first."""
    other_files: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """What else a folder must hold: of each group, one file."""

    def __init__(self, description: Description, model: nn.Module, tokenizer: Any = None) -> None:
        self.description = description
        # Any: the model libraries' own modules carry no types to check against.
        self.model: Any = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device = "cpu"
        self.precision = "fp32"
        self._memory_format: Any = None

    @property
    def vision(self) -> Any:
        """The module that looks at pictures: the whole model where it does nothing else."""
        return self.model

    @classmethod
    @abstractmethod
    def claims(cls, folder: Path) -> bool:
        """Whether the files in `folder` are this family's, judged by their content, never by a name."""

    @classmethod
    def missing(cls, folder: Path | None) -> list[str]:
        """Which files `folder` lacks, alternatives joined by "or"; all of them when it is None."""
        groups = (*cls.other_files, cls.weights_names)
        return [
            " or ".join(group)
            for group in groups
            if folder is None or not any((folder / name).is_file() for name in group)
        ]

    @classmethod
    @abstractmethod
    def describe(cls, location: Location, input_px: tuple[int, int] | None = None) -> Description:
        """Read the description from the files, without loading the weights.

        Raises:
            BackboneError: files are missing or not what they should be.
        """

    @classmethod
    @abstractmethod
    def open(cls, location: Location, description: Description) -> Backbone:
        """Build the model on the CPU in float32 and fill it exactly.

        Raises:
            BackboneError: the weights do not fill the model exactly, or are not plain tensors.
        """

    @classmethod
    def weights_files(cls, location: Location) -> tuple[Path, ...]:
        """The files of weights.

        Raises:
            BackboneError: none is there.
        """
        if location.weights_file is not None:
            return (location.weights_file,)
        return weights.find(location.folder_of(cls.family), cls.weights_names)

    @classmethod
    def weights_sha256(cls, location: Location) -> str:
        """Of the weights that are computed with, an adapter's included.

        Raises:
            BackboneError: none is there, or the adapter cannot be read.
        """
        of_base = weights.sha256_of(cls.weights_files(location))
        return of_base if location.adapter is None else adapters.sha256_of(of_base, location.adapter)

    @classmethod
    def _description(
        cls,
        location: Location,
        transform: Transform,
        input_px: tuple[int, int] | None,
        facts: TowerFacts,
        *,
        shaping: Any,
        dim: int,
        text_dim: int | None = None,
        tokenizer_sha256: str | None = None,
    ) -> Description:
        """The description of what lies at a location.

        Args:
            transform: the record's own; it is made to fit where another `input_px` is asked for.
            shaping: JSON value of what shapes the computation; a short hash of it is the architecture.

        Raises:
            BackboneError: no weights, the patch grid does not tile the input, or the record asks for what is past
                its limits.
        """
        limits.check_transform(transform, facts.patch_px, location.name)
        transform = transform.for_input(*input_px) if input_px else transform
        if facts.patch_px is not None:
            check_grid(location.name, transform.input_px, facts.patch_px)
        return Description(
            name=location.name,
            family=cls.family,
            architecture=f"{cls.family}:{sha256_of_value(shaping)[:16]}",
            dim=dim,
            text_dim=text_dim,
            input_px=transform.input_px,
            patch_px=facts.patch_px,
            n_blocks=facts.n_blocks,
            token_dim=facts.token_dim,
            has_class_token=facts.has_class_token,
            transform=transform,
            weights_sha256=cls.weights_sha256(location),
            tokenizer_sha256=tokenizer_sha256,
            source=location.source,
            revision=location.revision,
            library=cls.library,
        )

    @abstractmethod
    def _embed_images(self, batch: Tensor) -> Tensor: ...

    @abstractmethod
    def _tokens(self, batch: Tensor, blocks: int) -> list[tuple[Tensor, Tensor]]:
        """Per block, oldest first: class token [n, t], patch tokens [n, patches, t]; final norm applied."""

    @abstractmethod
    def _dense(self, batch: Tensor, blocks: int | None) -> list[FeatureMap]: ...

    def _token_ids(self, texts: list[str]) -> Tensor:
        """Integers [m, tokens], on the CPU: what `_embed_token_ids` takes."""
        raise self._no("text tower", "embed_texts")

    def _embed_token_ids(self, token_ids: Tensor) -> Tensor:
        """Embeddings [m, d] of token ids on the model's device."""
        raise self._no("text tower", "embed_texts")

    def _embed_texts(self, texts: list[str]) -> Tensor:
        return self._embed_token_ids(self._token_ids(texts).to(self.device))

    def _head(self) -> Callable[[Tensor], Tensor] | None:
        """What takes a dense map [n, c, h', w'] into the embedding space; None where no head is one of positions."""
        return None

    def to(self, device: str, precision: str = "fp32") -> Backbone:
        """Move and cast the model; TF32 is off for this process, so that fp32 means float32.

        On a CPU a convolutional tower computes in channels-last memory format, which is faster there and
        differs by rounding.

        Casting back from a narrower precision does not bring lost bits back: load again for that.

        Raises:
            UsageError: an unknown precision, or one that the device or the model's past cannot serve.
        """
        import torch

        if precision not in PRECISIONS:
            raise UsageError(f"precision {precision!r}; allowed: {', '.join(PRECISIONS)}")
        if self.precision not in (precision, "fp32"):
            raise UsageError(f"a backbone cast to {self.precision} cannot become {precision}: load it again")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self.model.to(device=device, dtype=self._dtype(precision))
        on_cpu = device.partition(":")[0] == "cpu"
        self._memory_format = torch.channels_last if on_cpu and is_convolutional(self.vision) else None
        self.vision.to(memory_format=self._memory_format or torch.contiguous_format)
        self.device, self.precision = device, precision
        return self

    def embed_images(self, batch: Tensor) -> Tensor:
        """Embeddings as published by the family, not normalised: float32 [n, d].

        Args:
            batch: float32 [n, 3, h, w] from `description.transform`, on any device.

        Raises:
            BackboneError: the sides are not `description.input_px`.
        """
        return self._run(lambda: self._embed_images(self._checked(batch)))

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """`embed_images` of uint8 [n, h, w, 3] (`Transform.pixels`), normalised on the device.

        A quarter of the bytes travel to the device; the values are those of `Transform.normalise`.
        """
        return self.embed_images(self.normalise(pixels))

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [n, h, w, 3] to float32 [n, 3, h, w] on the model's device, as `Transform.normalise`."""
        import torch

        transform = self.description.transform
        if self.device == "cpu":  # NumPy's table look-up is four times as fast as torch's there
            rows = [transform.normalise(row) for row in pixels.cpu().numpy()]
            return as_batch(rows) if rows else torch.zeros((0, 3, *pixels.shape[1:3]))
        table = torch.from_numpy(transform.table().copy()).to(self.device)  # [3, 256]
        pixels = pixels.to(self.device, non_blocking=True)
        flat = [pixels[..., channel].reshape(-1).int() for channel in range(3)]
        looked_up = [table[channel].index_select(0, flat[channel]) for channel in range(3)]
        return torch.stack([values.view(pixels.shape[:3]) for values in looked_up], dim=1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Text embeddings as published by the family, not normalised: float32 [m, d].

        Raises:
            BackboneError: the family has no text tower.
        """
        import torch

        if not self.description.has_text:
            raise self._no("text tower", "embed_texts")
        if not texts:
            return torch.zeros((0, self.description.text_dim or 0), device=self.device)
        with _inference_mode():
            chunks = [list(texts[start : start + _N_TEXTS]) for start in range(0, len(texts), _N_TEXTS)]
            return torch.cat([self._embed_texts(chunk).float() for chunk in chunks])

    def tokens(self, batch: Tensor, blocks: int = 1) -> Tensor:
        """Class token and mean patch token of the last `blocks` blocks: float32 [n, blocks, 2, t].

        Blocks run from the oldest to the last; index 0 of the third axis is the class token, 1 the mean.
        The model's final norm is applied to every block's tokens before the mean is taken. Register
        tokens are left out of the mean.

        Raises:
            BackboneError: no class token, or fewer blocks than asked for.
        """
        if not self.description.has_class_token:
            raise self._no("class token", "tokens")
        self._check_blocks(blocks)
        return self._run(lambda: self._paired(batch, blocks))

    def dense(self, batch: Tensor, blocks: int | None = None) -> list[FeatureMap]:
        """Dense maps, oldest or finest first; values float32 [n, c, h', w'].

        Transformers: patch tokens of the last `blocks` blocks (1 when None), final norm applied, class
        and register tokens left out. Convolutional towers: the last `blocks` stages (all when None),
        as they leave the stage. The maps are not projected; see `project`.

        Raises:
            BackboneError: fewer blocks or stages than asked for, or no patch grid.
        """
        if blocks is not None:
            self._check_blocks(blocks)
        with _inference_mode():
            maps = self._dense(self._checked(batch), blocks)
            return [FeatureMap(one.name, one.stride_px, one.values.float().contiguous()) for one in maps]

    @property
    def can_project(self) -> bool:
        """Whether `project` can be had."""
        return self._head() is not None

    def project(self, values: Tensor) -> Tensor:
        """The last dense map [n, c, h', w'] into the embedding space: float32 [n, d, h', w'].

        The family's own head, applied at each position instead of after pooling.

        Raises:
            BackboneError: the family's head is no function of single positions.
        """
        head, dtype = self._head(), self._dtype(self.precision)
        if head is None:
            raise self._no("projection that applies to single positions", "project")
        return self._run(lambda: head(values.to(device=self.device, dtype=dtype)).float())

    def _paired(self, batch: Tensor, blocks: int) -> Tensor:
        import torch

        pairs = self._tokens(self._checked(batch), blocks)
        rows = [torch.stack([first.float(), patches.float().mean(dim=1)], dim=1) for first, patches in pairs]
        return torch.stack(rows, dim=1)  # blocks x [n, 2, t] -> [n, blocks, 2, t]

    def _checked(self, batch: Tensor) -> Tensor:
        """The batch on the model's device and in its precision."""
        if batch.ndim != 4 or batch.shape[1] != 3 or tuple(batch.shape[2:]) != self.description.input_px:
            height, width = self.description.input_px
            raise BackboneError(
                f"{self.description.name}: batch of shape {tuple(batch.shape)}; "
                f"allowed: [n, 3, {height}, {width}]. "
                "Other sizes: load with input_px=(height, width) and use that description's transform"
            )
        kind = self._dtype(self.precision)
        batch = batch.to(device=self.device, dtype=kind, memory_format=self._memory_format)
        # CPU kernels round differently at an odd address, and NumPy's arrays may lie at one.
        return batch.clone() if batch.data_ptr() % _ALIGNMENT_BYTES else batch

    def _check_blocks(self, blocks: int) -> None:
        known = self.description.n_blocks
        if blocks < 1 or (known is not None and blocks > known):
            raise BackboneError(f"{self.description.name}: the last {blocks} blocks; it has {known}")

    def _no(self, what: str, method: str) -> BackboneError:
        name, family = self.description.name, self.description.family
        return BackboneError(f"{name} (family {family}) has no {what}, so {method} is not possible")

    @staticmethod
    def _dtype(precision: str) -> Any:
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]

    @staticmethod
    def _run(compute: Callable[[], Tensor]) -> Tensor:
        with _inference_mode():
            return compute().float().contiguous()


def _inference_mode() -> AbstractContextManager[None]:
    import torch

    return torch.inference_mode()


def check_grid(name: str, input_px: tuple[int, int], patch_px: int) -> None:
    """Refuse an input that the patch grid does not tile (DINOv2's library would silently floor it).

    Raises:
        BackboneError: a side is not a multiple of the patch.
    """
    if any(side < patch_px or side % patch_px for side in input_px):
        below = [max(patch_px, side // patch_px * patch_px) for side in input_px]
        raise BackboneError(
            f"{name}: input {input_px[0]}x{input_px[1]} px; both sides must be multiples of the patch, "
            f"{patch_px} px (nearest below: {below[0]}x{below[1]})"
        )


def block_maps(maps: Sequence[Tensor], n_blocks: int, patch_px: int) -> list[FeatureMap]:
    """Maps of the last of n_blocks transformer blocks, named by their numbers."""
    return [FeatureMap(f"block{i}", patch_px, one) for i, one in enumerate(maps, n_blocks - len(maps))]


def as_batch(arrays: Sequence[np.ndarray]) -> Tensor:
    """Arrays float32 [3, h, w] from `Transform.apply` as one tensor [n, 3, h, w]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.stack(arrays))
