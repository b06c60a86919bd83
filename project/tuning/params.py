"""How a backbone is tuned: the entries of the section `finetune`, and what `deponij tune` takes as flags."""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from deponij.pipeline.pictures import Route
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.tuning.augmenting import AugmentParams, preset
from deponij.pipeline.tuning.learning import LearningParams
from deponij.pipeline.tuning.lora import LoraParams
from deponij.pipeline.tuning.mixing import MixParams
from deponij.project.frame.settings import Section, Slug, check
from deponij.store.errors import UsageError

Start = Literal["probe", "zero", "plain"]
# Of a few thousand pictures on one machine; a profile says what it wants otherwise.
USUAL: dict[str, JsonValue] = {
    "epochs": 10,
    "batch_size": 32,
    "lr": 1e-3,
    "weight_decay": 0.05,
    "warmup_epochs": 0.5,
    "clip_norm": 1.0,
}


class Recipe(Section):
    """One tuned backbone; its key in `finetune` is its name.

    Attributes:
        backbone: that is tuned, a key of `backbones`.
        recipe: what of it learns.
        labels, split: what it learns; by default the profile's first. The part `val` chooses the epoch.
        start: of the classifier on top: `probe`, the logistic regression on the frozen features; `zero`, nothing known of
            these, standardised; `plain`, torch's usual weights on the embedding as it is, without frozen features. By
            default `probe`, and `plain` where the backbone is a new network.
        lora: of adapters. n_blocks: of `last-blocks`. layer_decay: factor of the learning rate a block further down.
        head_lr: factor of the learning rate of the classifier.
        augment: what is drawn of each picture: a preset (`none`, `flips`, `light`, `deit`, `thesis`), or its settings.
        mix: mixup, cutmix, and smoothing of the targets.
        class_weights, balance: power of 1/frequency in the loss, or in how often a picture is drawn; 0 for none.
        checkpointing: less memory for more time. decode: as in `extract`. input_px: other than the backbone's own.
        training: where it shall not be as usual, see `TrainingParams`.
    """

    backbone: Slug
    recipe: Literal["full", "last-blocks", "norms", "biases", "lora"] = "lora"
    labels: str | None = None
    split: Slug | None = None
    start: Start | None = None
    lora: LoraParams = LoraParams()
    n_blocks: int = Field(default=1, ge=1)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    head_lr: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    augment: str | AugmentParams = "light"
    mix: MixParams = MixParams()
    class_weights: float = Field(default=0.0, ge=0, le=1)
    balance: float = Field(default=0.0, ge=0, le=1)
    checkpointing: bool = False
    decode: Route = Route.DRAFT
    input_px: tuple[int, int] | None = None
    training: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def learning(self) -> LearningParams:
        """What of the backbone learns."""
        return LearningParams(way=self.recipe, n_blocks=self.n_blocks, lora=self.lora)

    @property
    def augmented(self) -> AugmentParams:
        """The augmentation's settings.

        Raises:
            UsageError: there is no preset of this name.
        """
        return preset(self.augment) if isinstance(self.augment, str) else self.augment

    def begun_on(self, *, is_new: bool) -> "Recipe":
        """The same, which says how its classifier starts.

        Args:
            is_new: the backbone is a network that has learned nothing.
        """
        return self.model_copy(update={"start": self.start or ("plain" if is_new else "probe")})

    @property
    def said(self) -> str:
        """In a few words."""
        match self.recipe:
            case "lora":
                return f"LoRA, {_of_adapters(self.lora)}"
            case "last-blocks":
                return f"the last {self.n_blocks} block{'s' if self.n_blocks > 1 else ''}"
            case "full":
                return "the whole tower"
            case other:
                return f"{other} alone"

    @model_validator(mode="after")
    def _trains(self) -> Self:
        try:
            self.trained_by("training")
            _ = self.augmented
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    def trained_by(self, where: str) -> TrainingParams:
        """The training's settings, those that were not named being as usual.

        Raises:
            UsageError: one of them is wrong.
        """
        return check(TrainingParams, USUAL | self.training, where)


def _of_adapters(lora: LoraParams) -> str:
    more = [name for name, is_on in (("rsLoRA", lora.rslora), ("DoRA", lora.dora)) if is_on]
    return ", ".join([f"rank {lora.rank}", f"on {lora.targets}", *more])
