"""What decides what a run produces?

A TrainConfig is what was asked for: a field may be open (None, or `auto`). A RunConfig is what a run was made with: no
field is open. gan.recipes.resolve makes the second from the first.
"""

import re
from typing import Any, Literal, NamedTuple, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from gan.errors import ConfigMismatchError

OnCollapse = Literal["ignore", "fail", "rollback", "restart"]
RecipeName = Literal["published", "tuned", "dcgan"]  # the built-in ones
# Any other recipe is an object of a Python module: package.module:name.
RECIPE_ADDRESS = re.compile(
    r"(?=.{3,200}\Z)([A-Za-z_][A-Za-z0-9_]*)(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*\Z"
)
# The fields that config.json has only where they have a value.
LEFT_OUT = {
    "data", "init_from", "init_sha256", "recipe_sha256", "recipe_distributions",
    "side", "channels", "num_classes", "background",
}  # fmt: skip
DATA_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(@[0-9a-f]{8,64})?")  # NAME or NAME@SHA
# The names that older versions wrote into config.json and checkpoints.
OLD_NAMES = {
    "refine_from": "lr_decay_start",
    "refine_learning_rate": "lr_decay_from",
    "final_learning_rate": "lr_decay_to",
    "max_shift": "augment_translate",
    "shift_from": "augment_start",
}


class DataShape(NamedTuple):
    """What networks must know of the images of a data set. The defaults are MNIST's."""

    side: int = 28  # pixels of an image in each direction
    channels: int = 1  # 1: grey, 3: RGB
    num_classes: int = 10  # 0: the images have no labels
    background: tuple[int, int, int] = (0, 0, 0)  # red, green, blue: what is around the objects


MNIST_SHAPE = DataShape()


class TrainConfig(BaseModel):
    """Hold what was asked for, of all that decides what a run produces.

    A field that is None is filled once, when the run is made: by the recipe, by the machine (threads) or by the
    caller (seed). So are a device and a precision of `auto`. A resumed run keeps the values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", title="Training")

    recipe: str = Field("tuned", description="The networks and the defaults.")
    data: str | None = Field(None, description="Imported data set, NAME or NAME@SHA; `gan data list` shows them.")
    num_steps: int | None = Field(
        None, ge=1, le=100_000_000, description="Steps to train; a step is one update of each network."
    )
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="Seed of the weights, the batches and the latents.")
    batch_size: int = Field(64, ge=25, le=10_000, description="Real images in a step, and as many fakes.")
    latent_dim: int = Field(100, ge=1, le=10_000, description="Size of z, which is standard normal.")
    conditional: bool | None = Field(None, description="Condition both networks on the class of the image.")
    learning_rate: float | None = Field(
        None, gt=0, le=1, allow_inf_nan=False, description="Adam's learning rate before it decays."
    )
    lr_decay_start: float | None = Field(
        None, ge=0, le=1, description="Share of the steps after which the learning rate decays; 1: never."
    )
    lr_decay_from: float | None = Field(
        None, gt=0, le=1, allow_inf_nan=False, description="Learning rate at the start of the decay."
    )
    lr_decay_to: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Learning rate at the last step, at the end of the linear decay.",
    )
    beta1: float | None = Field(None, ge=0, lt=1, description="Adam's decay rate of the first moment.")
    beta2: float | None = Field(None, ge=0, lt=1, description="Adam's decay rate of the second moment.")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Share of the discriminator's activations that dropout sets to 0."
    )
    augment_translate: int | None = Field(
        None,
        ge=0,
        le=8,
        description="Translate each image that the discriminator sees, real and fake, at random by up to so many "
        "pixels; 0: none.",
    )
    augment_start: float | None = Field(
        None, ge=0, le=1, description="Share of the steps after which images are translated."
    )
    r1_gamma: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Weight of R1, the penalty on the discriminator's gradient at real images; 0: none.",
    )
    ema_decay: float | None = Field(
        None, ge=0, lt=1, description="Decay per step of the generator's moving average; 0: no average."
    )
    snapshot_steps: int = Field(
        1000, ge=1, le=1_000_000, description="Steps between snapshots: a grid, the losses, a checkpoint."
    )
    on_collapse: OnCollapse | None = Field(
        None,
        description="What to do when training has collapsed or a network no longer learns; ignore: train on; fail: end "
        "the run; rollback: return to the last healthy checkpoint, with fresh latents; restart: start over with a "
        "derived seed; after 3 more attempts the run fails.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda if it is usable, else cpu.")
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="Precision of matrix products and activations; weights and sums stay float32; auto: bfloat16 where "
        "it is faster (a CPU with AMX, an AMD CPU with AVX512-bf16, a GPU since Ampere), else float32.",
    )
    num_threads: int | None = Field(
        None,
        ge=1,
        le=256,
        description="CPU threads; a run keeps their number, because another one gives other bits.",
    )
    init_from: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Begin with the weights of this run or checkpoint: a path, or an address in a bucket.",
    )

    @model_validator(mode="before")
    @classmethod
    def _rename_old_fields(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {OLD_NAMES.get(name, name): value for name, value in fields.items()}

    @field_validator("recipe")
    @classmethod
    def _check_recipe(cls, name: str) -> str:
        if name not in get_args(RecipeName) and not RECIPE_ADDRESS.match(name):
            raise ValueError(f"expected {', '.join(get_args(RecipeName))} or PACKAGE.MODULE:NAME, got {name[:200]!r}")
        return name

    @field_validator("data")
    @classmethod
    def _check_data(cls, address: str | None) -> str | None:
        if address and not DATA_ADDRESS.fullmatch(address):
            raise ValueError(f"expected NAME or NAME@SHA of an imported data set, got {address[:200]!r}")
        return address or None

    @model_serializer(mode="wrap")
    def _leave_out(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if name not in LEFT_OUT or value is not None}

    def differences(self, run: "RunConfig") -> list[str]:
        """List, one line each, the fields that are set here and have another value in the config of a run.

        A field that was not given, None and `auto` ask for nothing.
        """
        lines = []
        for name in type(self).model_fields:
            asked, found = getattr(self, name), getattr(run, name)
            if name in self.model_fields_set and asked not in (None, "auto", found):
                lines.append(f"{name}: the run has {found}, asked for {asked}")
        return lines

    def check_resumes(self, run: "RunConfig", run_dir: object) -> None:
        """Raise ConfigMismatchError, with both values of each field, unless what is asked for is what the run has."""
        lines = self.differences(run)
        if lines:
            raise ConfigMismatchError(
                f"{run_dir} was made with another config:\n  "
                + "\n  ".join(lines)
                + "\nLeave these options out to resume it, or start another run."
            )


class RunConfig(TrainConfig):
    """Hold everything that decides what a run produces, as config.json and checkpoints have it."""

    num_steps: int
    seed: int
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
    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]
    num_threads: int
    # Of a recipe that is not built in: which code it was. gan.recipes.custom.fingerprint makes both.
    recipe_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of all .py files in the package of the recipe."
    )
    recipe_distributions: str | None = Field(
        None, description="Distributions that have this package, with their versions; empty: found by PYTHONPATH."
    )
    init_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of the checkpoint that the run began from."
    )

    # Of a data set whose images are not as MNIST's; None: MNIST's. gan.config.DataShape says what they are.
    side: int | None = Field(None, ge=1, le=1024, description="Height and width of the images, in pixels.")
    channels: Literal[1, 3, None] = Field(None, description="1: grey images; 3: RGB.")
    num_classes: int | None = Field(None, ge=0, description="Classes of the images; 0: they have no labels.")
    background: str | None = Field(None, pattern="^[0-9a-f]{6}$", description="What is around the objects, RRGGBB.")

    @property
    def data_shape(self) -> DataShape:
        """Return what the networks know of the images."""
        if self.side is None or self.channels is None or self.num_classes is None or self.background is None:
            return MNIST_SHAPE
        red, green, blue = bytes.fromhex(self.background)
        return DataShape(self.side, self.channels, self.num_classes, (red, green, blue))

    def learning_rate_after(self, step: int) -> float:
        """Return Adam's learning rate at the step that comes after `step`.

        It is constant up to lr_decay_start x num_steps, then linear from lr_decay_from to lr_decay_to.
        """
        first = self.lr_decay_start * self.num_steps
        if step < first:
            return self.learning_rate
        done = (step - first) / max(self.num_steps - first, 1)
        return self.lr_decay_from + (self.lr_decay_to - self.lr_decay_from) * done

    def translates_after(self, step: int) -> bool:
        """Tell whether the discriminator's images are translated at the step that comes after `step`."""
        return self.augment_translate > 0 and step >= self.augment_start * self.num_steps
