"""What decides what a run produces?"""

from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gan.errors import ConfigMismatchError

PUBLISHED_STEPS = 99 * 937  # epochs 1..99 of 60,000 // 64 batches each
NUM_DIGITS = 10
# The names that older versions wrote into config.json and checkpoints.
OLD_NAMES = {
    "refine_from": "lr_decay_start",
    "refine_learning_rate": "lr_decay_from",
    "final_learning_rate": "lr_decay_to",
    "max_shift": "augment_translate",
    "shift_from": "augment_start",
}

OnCollapse = Literal["ignore", "fail", "rollback", "restart"]


class RecipeDefaults(NamedTuple):
    """Values that a recipe gives to the fields left None."""

    num_steps: int
    conditional: bool
    learning_rate: float
    lr_decay_start: float
    lr_decay_from: float
    lr_decay_to: float
    beta1: float
    beta2: float
    dropout: float
    augment_translate: int
    augment_start: float
    r1_gamma: float
    ema_decay: float
    on_collapse: OnCollapse


RecipeName = Literal["published", "tuned", "dcgan"]
RECIPES: dict[RecipeName, RecipeDefaults] = {
    "published": RecipeDefaults(
        PUBLISHED_STEPS, conditional=False, learning_rate=1e-4, lr_decay_start=1, lr_decay_from=1e-4,
        lr_decay_to=1e-4, beta1=0.9, beta2=0.999, dropout=0, augment_translate=0, augment_start=0, r1_gamma=0,
        ema_decay=0, on_collapse="ignore",
    ),
    "tuned": RecipeDefaults(
        PUBLISHED_STEPS, conditional=True, learning_rate=6e-4, lr_decay_start=0.15, lr_decay_from=2e-4,
        lr_decay_to=3e-5, beta1=0.5, beta2=0.999, dropout=0, augment_translate=2, augment_start=0.15, r1_gamma=0.02,
        ema_decay=0.9999, on_collapse="restart",
    ),
    "dcgan": RecipeDefaults(
        30_000, conditional=True, learning_rate=2e-3, lr_decay_start=0.17, lr_decay_from=3e-4,
        lr_decay_to=3e-4, beta1=0.5, beta2=0.99, dropout=0, augment_translate=2, augment_start=0, r1_gamma=0.3,
        ema_decay=0.9998, on_collapse="restart",
    ),
}  # fmt: skip
# What these fields tend to, the shorter a run is: it learns for more of its steps before it refines, its last steps are
# larger, and it ends before D knows the reals by heart, which is what shifts are against.
SHORT: dict[RecipeName, dict[str, float]] = {"tuned": {"lr_decay_start": 0.43, "lr_decay_to": 2e-4, "augment_start": 1}}


def recipe_defaults(recipe: RecipeName, num_steps: int | None = None) -> dict[str, Any]:
    """Return what a recipe gives to the fields of a run of this length, by default of its own."""
    own = RECIPES[recipe]
    share = min((num_steps or own.num_steps) / own.num_steps, 1)
    short = {name: getattr(own, name) * share + value * (1 - share) for name, value in SHORT.get(recipe, {}).items()}
    return {**own._asdict(), **short}


class TrainConfig(BaseModel):
    """Hold everything that decides what a run produces.

    A field left None is resolved once, when the run is made: by the recipe, by the machine (threads) or by the
    caller (seed); so are device and precision `auto`, by the machine. A resumed run keeps what was resolved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", title="Training")

    recipe: RecipeName = Field(
        "tuned",
        description="published: the tutorial to the letter; tuned: same layer sizes, repaired, stabilised, told which "
        "digit; dcgan: convolutions, told likewise.",
    )
    num_steps: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Steps to train; one is a G update and a D update. "
        f"Recipe: published and tuned {PUBLISHED_STEPS:,} (99 epochs), dcgan 30,000.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=2**63 - 1,
        description="Seed of the weights, the batches and the latents. Default 0.",
    )
    batch_size: int = Field(64, ge=25, le=10_000, description="Real images, and fakes, in a step.")
    latent_dim: int = Field(100, ge=1, le=10_000, description="Size of z, standard normal.")
    conditional: bool | None = Field(
        None,
        validate_default=True,
        description="Tell both networks which digit an image is to be. Recipe: published no, tuned and dcgan yes.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Adam's step size. Recipe: published 1e-4, tuned 6e-4, dcgan 2e-3.",
    )
    lr_decay_start: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the steps after which the learning rate decays; 1: never. "
        "Recipe: published 1, tuned 0.15 (shorter runs up to 0.43), dcgan 0.17.",
    )
    lr_decay_from: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Learning rate at the start of the decay. Recipe: published 1e-4, tuned 2e-4, dcgan 3e-4.",
    )
    lr_decay_to: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Learning rate at the last step; it decays linearly from --lr-decay-from. "
        "Recipe: published 1e-4, tuned 3e-5 (shorter runs up to 2e-4), dcgan 3e-4.",
    )
    beta1: float | None = Field(
        None, ge=0, lt=1, description="Adam's first decay. Recipe: published 0.9, tuned and dcgan 0.5."
    )
    beta2: float | None = Field(
        None, ge=0, lt=1, description="Adam's second decay. Recipe: published and tuned 0.999, dcgan 0.99."
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Share of D's activations dropped; dcgan has none. Recipe: 0."
    )
    augment_translate: int | None = Field(
        None,
        ge=0,
        le=8,
        description="Translate the images that D sees, real and fake, at random by up to so many pixels; 0: never. "
        "Recipe: published 0, tuned and dcgan 2.",
    )
    augment_start: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the steps after which images are translated. "
        "Recipe: tuned 0.15 (shorter runs up to 1), dcgan 0.",
    )
    r1_gamma: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Weight of R1, D's gradient penalty on real images; 0: none. "
        "Recipe: published 0, tuned 0.02, dcgan 0.3.",
    )
    ema_decay: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Decay a step of the averaged generator; 0: none. Recipe: published 0, tuned 0.9999, dcgan 0.9998.",
    )
    snapshot_steps: int = Field(
        1000, ge=1, le=1_000_000, description="Steps between snapshots: a grid, the losses, a checkpoint."
    )
    on_collapse: OnCollapse | None = Field(
        None,
        description="What to do when training is dead or has collapsed: ignore it; fail; rollback to the last healthy "
        "checkpoint, with fresh latents; restart with a derived seed. 3 times at most, then it fails. "
        "Recipe: published ignore, tuned and dcgan restart.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda where it is usable, else cpu.")
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="Of products and what goes through them; weights and sums stay float32. auto: bfloat16 where that "
        "multiplies faster (a CPU with AMX, one of AMD's with AVX512-bf16, a GPU since Ampere), else float32.",
    )
    num_threads: int | None = Field(
        None,
        ge=1,
        le=256,
        description="CPU threads; part of the run, since it changes bits. Default: the usable cores, at most 8.",
    )

    @model_validator(mode="before")
    @classmethod
    def _rename_old_fields(cls, fields: Any) -> Any:
        return (
            {OLD_NAMES.get(name, name): value for name, value in fields.items()} if isinstance(fields, dict) else fields
        )

    @field_validator("conditional")
    @classmethod
    def _can_tell(cls, conditional: bool | None, info: ValidationInfo) -> bool | None:
        recipe, latent_dim = info.data.get("recipe"), info.data.get("latent_dim")
        if recipe == "dcgan" and conditional is False:
            raise PydanticCustomError("always_told", "recipe dcgan is always told the digit: leave it out")
        is_told = RECIPES[recipe].conditional if recipe and conditional is None else conditional
        if is_told and recipe != "dcgan" and latent_dim is not None and latent_dim <= NUM_DIGITS:
            raise PydanticCustomError(
                "no_room", "the digit takes the place of ten latents: --latent-dim 11 or more, or --no-conditional"
            )
        return conditional

    @field_validator("dropout")
    @classmethod
    def _has_dropout(cls, dropout: float | None, info: ValidationInfo) -> float | None:
        if dropout and info.data.get("recipe") == "dcgan":
            raise PydanticCustomError("no_dropout", "recipe dcgan has no dropout: leave it out, or give 0")
        return dropout

    def resolved(
        self,
        *,
        seed: int,
        device: Literal["cpu", "cuda"],
        num_threads: int,
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> Self:
        """Fill every field left open: the recipe's, then seed, device, threads and precision as given."""
        open_fields = {**recipe_defaults(self.recipe, self.num_steps), "seed": seed, "num_threads": num_threads}
        filled = {name: value for name, value in open_fields.items() if getattr(self, name) is None}
        if self.precision == "auto":
            filled["precision"] = precision
        return self.model_copy(update={**filled, "device": device})

    def completed(self) -> Self:
        """Fill the fields that a run's version did not have by what it did, so that the run goes on as it began."""
        did = {
            "conditional": self.recipe == "dcgan",
            "lr_decay_to": self.lr_decay_from,
            "augment_start": self.lr_decay_start,
            "on_collapse": RECIPES[self.recipe].on_collapse,
        }
        return self.model_copy(update={name: value for name, value in did.items() if getattr(self, name) is None})

    def learning_rate_after(self, step: int) -> float:
        """Return Adam's step size at the step that comes after `step`, of a resolved config."""
        assert self.learning_rate and self.lr_decay_from and self.lr_decay_to
        assert self.lr_decay_start is not None and self.num_steps is not None
        first = self.lr_decay_start * self.num_steps
        if step < first:
            return self.learning_rate
        done = (step - first) / max(self.num_steps - first, 1)
        return self.lr_decay_from + (self.lr_decay_to - self.lr_decay_from) * done

    def shifts_after(self, step: int) -> bool:
        """Tell whether D's images are shifted at the step that comes after `step`, of a resolved config."""
        assert self.augment_start is not None and self.num_steps is not None
        return bool(self.augment_translate) and step >= self.augment_start * self.num_steps

    def differences(self, run: "TrainConfig") -> list[str]:
        """List, one line each, the fields asked for here that a resolved config has otherwise.

        Only fields that were given count; None and `auto` ask for nothing.
        """
        asked = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        return [
            f"{name}: the run has {getattr(run, name)}, asked for {value}"
            for name, value in asked.items()
            if value not in (None, "auto") and value != getattr(run, name)
        ]

    def check_resumes(self, run: "TrainConfig", run_dir: object) -> None:
        """Raise ConfigMismatchError, field by field, unless what is asked for here is what the run has."""
        if lines := self.differences(run):
            raise ConfigMismatchError(
                f"{run_dir} was made with another config:\n  "
                + "\n  ".join(lines)
                + "\nLeave these options out to resume it, or start another run."
            )
