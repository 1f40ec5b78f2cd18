"""What does the check of a recipe find?"""

from typing import Literal

from pydantic import BaseModel, Field

KINDS = {
    "torch": "torch's global random numbers",
    "numpy": "numpy's global random numbers",
    "python": "Python's random numbers",
    "urandom": "random bytes of the system (os.urandom)",
    "time": "the time",
    "outside": "state outside of parameters and persistent buffers",
}
RANDOM = {"torch", "numpy", "python", "urandom"}  # these are a fault even where no byte differs


class Source(BaseModel):
    """Something that a step depends on, and that no checkpoint has."""

    kind: Literal["torch", "numpy", "python", "urandom", "time", "outside"]
    where: str = Field(description="A line of the recipe's code, or the name of what changes; may be empty.")

    def __str__(self) -> str:
        return f"{KINDS[self.kind]}: {self.where}" if self.where else KINDS[self.kind]


class Difference(BaseModel):
    """The first tensor of the state that two trainings do not have alike."""

    between: Literal["repeated", "resumed"] = Field(
        description="With the undisturbed training. repeated: one that was not interrupted yet; resumed: after SIGKILL."
    )
    step: int
    tensor: str = Field(description="Its name in a checkpoint.")
    num_others: int = Field(description="How many more tensors differ at this step.")

    def __str__(self) -> str:
        when = {
            "repeated": "a second training from the same seed differs",
            "resumed": "after SIGKILL and a resume, the training differs",
        }
        return (
            f"{when[self.between]}: at step {self.step}, first in {self.tensor}, and in {self.num_others} more tensors"
        )


class Range(BaseModel):
    """The least and the greatest value."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.4g}, {self.high:.4g}]"


class Findings(BaseModel):
    """What the undisturbed training of a check finds."""

    error: str | None = Field(None, description="The error of the recipe's code that ended the check.")
    traceback: str | None = Field(None, exclude=True)
    sha256: str | None = Field(
        None, description="Of the .py files in the recipe's package; null: built in, or unknown."
    )
    sources: list[Source] = Field([], description="What a step depends on, and no checkpoint has.")
    images_shape: list[int] | None = None
    images: Range | None = Field(None, description="Of the generator's images. They must lie in [-1, 1].")
    logits: Range | None = Field(None, description="Of the discriminator's logits.")
    seconds_per_step: float | None = Field(None, description="Median, on one CPU thread.")
    graph: list[str] = Field([], description="What a CUDA graph would refuse; training is slower then.")


class RecipeCheck(Findings):
    """What the check of a recipe finds."""

    version: Literal[1] = 1
    recipe: str
    passed: bool
    num_steps: int
    killed_after: int = Field(description="The step after which the second training got SIGKILL.")
    difference: Difference | None = Field(None, description="Null where every byte is the same.")
    faults: list[str] = Field(description="Why it has not passed, in words.")

    def __str__(self) -> str:
        lines = [f"recipe {self.recipe}: {self.num_steps} steps, SIGKILL after step {self.killed_after}, resume"]
        lines += [f"fault: {fault}" for fault in self.faults]
        if self.images and self.logits and self.seconds_per_step:
            shape = tuple(self.images_shape or ())
            lines.append(f"images {shape} in {self.images}, logits ({shape[0]},) in {self.logits}")
            lines.append(f"{self.seconds_per_step * 1000:.1f} ms a step on one CPU thread")
            lines += [f"a CUDA graph would refuse: {each}" for each in self.graph]
            if not self.graph:
                lines.append("nothing was found that a CUDA graph would refuse")
        if not self.faults:
            lines += [f"note: a step reads or changes {each}; no byte differs" for each in self.sources]
            lines.append("passed: every byte is the same")
        return "\n".join(lines)
