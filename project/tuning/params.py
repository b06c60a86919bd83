"""How a backbone is tuned: the entries of the section `finetune`, and what `deponij tune` takes as flags."""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from deponij.pipeline.pictures import Route
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.tuning.augmenting import AugmentParams, preset
from deponij.pipeline.tuning.learning import LearningParams
from deponij.pipeline.tuning.lora import LoraParams
from deponij.pipeline.tuning.losses import DistillParams
from deponij.pipeline.tuning.mixing import MixParams
from deponij.project.frame.settings import Section, Slug, check
from deponij.store.errors import UsageError

# Of a few thousand pictures on one machine; a profile says what it wants otherwise.
USUAL: dict[str, JsonValue] = {
    "epochs": 10,
    "batch_size": 32,
    "lr": 1e-3,  # of what learns little; see `_WHOLE_LR`
    "weight_decay": 0.05,
    "warmup_epochs": 0.5,
    "clip_norm": 1.0,
}
# Of weights that know something and all learn.
_WHOLE_LR = 3e-4
_OF_CLASSES = ("start", "mix", "teacher", "class_weights", "balance")


Start = Literal["probe", "zero", "plain"]


class TeacherParams(DistillParams):
    """Whom a backbone learns from beside the labels: another one, with the logistic probe of its features on top.

    Where pictures always look the same, what it says comes from its stored features; where augmentation or mixing draws,
    it looks at each batch as the student does.

    Attributes:
        backbone: a key of `backbones`.
    """

    backbone: str


class Recipe(Section):
    """One tuned backbone; its key in `finetune` is its name.

    Attributes:
        backbone: that is tuned, a key of `backbones`.
        recipe: what of it learns.
        learns: what it learns: `classes`, by a classifier on top, or `captions`, by the contrast of a two-tower model
            between the pictures and the texts of a batch. What belongs to classes alone (`start`, `mix`, `teacher`,
            `class_weights`, `balance`) is refused with captions.
        text: whether the text tower is `frozen` (the mirror image of the locked-image tuning of Zhai et al. 2022) or
            `learns`, whole, for which `recipe` is full.
        labels, split: the column of the items that it learns, and by which parts; by default the profile's first, of
            captions none. The part `val` chooses the epoch.
        start: of the classifier on top: `probe`, the logistic regression on the frozen features; `zero`, nothing known of
            these, standardised; `plain`, torch's usual weights on the embedding as it is, without frozen features. By
            default `probe`, and `plain` where the backbone is a new network.
        lora: of adapters.
        n_blocks: of `last-blocks`.
        moments: of batch norms that learn: those of the base (`keep`), or of batches (`learn`), by default
            for a new network alone.
        layer_decay: factor of the learning rate a block further down.
        head_lr: factor of the learning rate of the classifier; with captions, of temperature, bias and text tower.
        augment: what is drawn of each picture: a preset (`none`, `flips`, `light`, `deit`, `heavy`), or its settings.
        mix: mixup, cutmix, and smoothing of the targets.
        teacher: whom it learns from beside the labels, or nobody.
        class_weights, balance: power of 1/frequency in the loss, or in how often a picture is drawn; 0 for none.
        checkpointing: of the vision tower, less memory for more time.
        decode: as in `extract`.
        input_px: other than the backbone's own.
        training: where it shall not be as usual, see `TrainingParams`.
    """

    backbone: Slug
    recipe: Literal["full", "last-blocks", "norms", "biases", "lora"] = "lora"
    learns: Literal["classes", "captions"] = "classes"
    text: Literal["frozen", "learns"] = "frozen"
    labels: str | None = None
    split: Slug | None = None
    start: Start | None = None
    lora: LoraParams = LoraParams()
    n_blocks: int = Field(default=1, ge=1)
    moments: Literal["keep", "learn"] | None = None
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    head_lr: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    augment: str | AugmentParams = "light"
    mix: MixParams = MixParams()
    teacher: TeacherParams | None = None
    class_weights: float = Field(default=0.0, ge=0, le=1)
    balance: float = Field(default=0.0, ge=0, le=1)
    checkpointing: bool = False
    decode: Route = Route.DRAFT
    input_px: tuple[int, int] | None = None
    training: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def learning(self) -> LearningParams:
        """What of the backbone learns."""
        return LearningParams(
            way=self.recipe, n_blocks=self.n_blocks, lora=self.lora, moments=self.moments or "keep"
        )

    @property
    def augmented(self) -> AugmentParams:
        """The augmentation's settings.

        Raises:
            UsageError: there is no preset of this name.
        """
        return preset(self.augment) if isinstance(self.augment, str) else self.augment

    def begun_on(self, *, is_new: bool) -> "Recipe":
        """The same, which says how its classifier and its batch norms start.

        Args:
            is_new: the backbone is a network that has learned nothing.
        """
        start, moments = ("plain", "learn") if is_new else ("probe", "keep")
        told = {"moments": self.moments or moments}
        if self.learns == "classes":
            told["start"] = self.start or start
        return self.model_copy(update=told)

    @property
    def draws(self) -> bool:
        """Whether a picture may look different from one epoch to the next."""
        return self.augmented.draws or self.mix.draws

    @property
    def said(self) -> str:
        """In a few words."""
        match self.recipe:
            case "lora":
                what = f"LoRA, {_of_adapters(self.lora)}"
            case "last-blocks":
                what = f"the last {self.n_blocks} block{'s' if self.n_blocks > 1 else ''}"
            case "full":
                what = "the whole tower" if self.text == "frozen" else "both towers"
            case other:
                what = f"{other} alone"
        if self.teacher is not None:
            what += f", taught by {self.teacher.backbone}"
        return what if self.learns == "classes" else f"{what}, by captions"

    @model_validator(mode="after")
    def _trains(self) -> Self:
        try:
            self.trained_by("training")
            _ = self.augmented
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _is_of_what_it_learns(self) -> Self:
        if self.learns == "classes":
            if self.text == "learns":
                raise ValueError(
                    "text: learns is for learns: captions; classes leave the text tower as it is"
                )
            return self
        usual = type(self).model_fields
        of_classes = [name for name in _OF_CLASSES if getattr(self, name) != usual[name].default]
        if of_classes:
            raise ValueError(
                f"{', '.join(of_classes)}: for learns: classes alone; leave it away with captions"
            )
        if self.text == "learns" and self.recipe != "full":
            raise ValueError(f"text: learns trains both towers whole: recipe: full, not {self.recipe}")
        if self.trained_by("training").batch_size < 2:
            raise ValueError(
                "training.batch_size: 1; captions are told apart within a batch, which takes 2 or more"
            )
        return self

    def trained_by(self, where: str) -> TrainingParams:
        """The training's settings, those that were not named being as usual.

        Raises:
            UsageError: one of them is wrong.
        """
        knows = self.recipe in ("full", "last-blocks") and self.start != "plain"
        usual = USUAL | ({"lr": _WHOLE_LR} if knows else {})
        return check(TrainingParams, usual | self.training, where)


def _of_adapters(lora: LoraParams) -> str:
    more = [name for name, is_on in (("rsLoRA", lora.rslora), ("DoRA", lora.dora)) if is_on]
    where = [] if lora.targets == "usual" else [f"on {lora.targets}"]
    return ", ".join([f"rank {lora.rank}", *where, *more])
