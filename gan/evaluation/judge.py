"""Which frozen network judges samples of a data set, and with which values of its real images?

MNIST's judge is in the package. That of another data set is made by gan.evaluation.judge_training, and is kept in a
folder: its weights, its reference and a card. The SHA-256 of both files is in the card. It is a classifier where the
images have labels, and a fixed random network where they have none.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gan.data.dataset import Dataset
from gan.errors import ChecksumError, DataError
from gan.evaluation.classifier import Classifier, FeatureNetwork
from gan.evaluation.random_features import RandomFeatures
from gan.evaluation.reference import PATH, SHA256, Reference, decode
from gan.evaluation.results import RANDOM_FEATURES, FeaturesKind, optional_field

WEIGHTS = Path(__file__).with_name("classifier.safetensors")  # made by benchmarks/train_classifier.py
WEIGHTS_SHA256 = "4c057df609c72c3a7420d583d7c7f13416c2d079b5529e37379b7e3ca54497f5"
CARD, WEIGHTS_NAME, REFERENCE_NAME = "judge.json", "classifier.safetensors", "reference.safetensors"

Network = TypeVar("Network", bound=FeatureNetwork)


class JudgeCard(BaseModel):
    """What a judge was made from, and how well it knows the data set; the content of judge.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    data: dict[str, str] = Field(description="SHA-256 of the data set's parts, by name.")
    features: FeaturesKind = optional_field("classifier", "random: of a fixed random network; there are no labels.")
    side: int = Field(description="Of its images, in pixels.")
    channels: int = Field(description="1: grey, 3: RGB.")
    num_classes: int = Field(description="0: there are no labels.")
    num_train: int = Field(description="Training images that it was made from.")
    num_test: int = Field(description="Images that samples are compared with.")
    accuracy: float | None = optional_field(
        description="Share of the test images that it classifies correctly. Without labels there is none."
    )
    floor_counts: list[int] = Field(description="For so many real training images, floors are in the reference.")
    weights_sha256: str
    reference_sha256: str
    torch: str = Field(description="Version that made it. Another one may give other weights.")

    def __str__(self) -> str:
        counts = f"{self.num_train:,} training and {self.num_test:,} test images"
        if self.accuracy is None:
            return f"{RANDOM_FEATURES}; {counts}; SHA-256 {self.weights_sha256}"
        return (
            f"classifies {self.accuracy:.2%} of the test images correctly; {counts} of {self.num_classes:,} classes; "
            f"SHA-256 {self.weights_sha256}"
        )


@dataclass(frozen=True)
class Judge:
    """A frozen network, and the reference that its outputs are compared with."""

    sha256: str  # of the network's weights; figures of different judges are not comparable
    classifier: FeatureNetwork  # a Classifier, or RandomFeatures, which knows no classes
    reference: Reference

    @property
    def features(self) -> FeaturesKind:
        """Return what kind of network it is."""
        return "random" if isinstance(self.classifier, RandomFeatures) else "classifier"


def mnist_judge(device: torch.device | str = "cpu") -> Judge:
    """Return the judge of MNIST, in the package.

    Raises:
        ChecksumError: a file of the package is not the one that this version was made with.
    """
    return Judge(WEIGHTS_SHA256, load_classifier(device), load_reference())


def load_classifier(device: torch.device | str = "cpu") -> Classifier:
    """Return MNIST's frozen classifier in eval mode. Raises as `mnist_judge` does."""
    return _frozen(Classifier, _read(WEIGHTS, WEIGHTS_SHA256), device)


def load_reference() -> Reference:
    """Return the values of MNIST's real images. Raises as `mnist_judge` does."""
    return decode(_read(PATH, SHA256))


def load_judge(folder: Path, device: torch.device | str = "cpu") -> Judge:
    """Return the judge in a folder.

    Raises:
        DataError: there is none, or another version made it.
        ChecksumError: one of its files is damaged.
    """
    card = read_card(folder)
    weights = _read(folder / WEIGHTS_NAME, card.weights_sha256, REMEDY)
    reference = decode(_read(folder / REFERENCE_NAME, card.reference_sha256, REMEDY))
    if card.features == "random":
        return Judge(card.weights_sha256, _frozen(RandomFeatures, weights, device, card.channels), reference)
    classifier = _frozen(Classifier, weights, device, card.side, card.channels, card.num_classes)
    return Judge(card.weights_sha256, classifier, reference)


REMEDY = "Remove its folder, and train the judge again"


def judge_of(data: Dataset, device: torch.device | str = "cpu") -> Judge | None:
    """Return the judge that is kept beside an imported data set; None where it has none.

    Raises:
        ChecksumError: one of its files is damaged.
        DataError: it is the judge of other images, or another version made it.
    """
    if data.judge_folder is None or not (data.judge_folder / CARD).exists():
        return None
    card = read_card(data.judge_folder)
    if card.data != data.sha256:
        raise DataError(f"{data.judge_folder / CARD} is of other images. {REMEDY}.")
    return load_judge(data.judge_folder, device)


def read_card(folder: Path) -> JudgeCard:
    """Return the card of the judge in a folder. Raises DataError as `load_judge` does."""
    path = folder / CARD
    try:
        return JudgeCard.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: this data set has no judge yet. Train it by `gan judge train`.") from error
    except (OSError, ValidationError) as error:
        raise DataError(f"{path} cannot be read, or is of another version. {REMEDY}.") from error


def _read(path: Path, sha256: str, remedy: str = "install gan-train again") -> bytes:
    data = path.read_bytes() if path.exists() else b""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ChecksumError(f"{path}: SHA-256 is {found}, expected {sha256}; {remedy}")
    return data


def _frozen(network_type: type[Network], weights: bytes, device: torch.device | str, *shape: int) -> Network:
    """Return a network of this shape with these weights, in eval mode."""
    with torch.device("meta"):  # draws no weights, so the caller's random state does not change
        network = network_type(*shape)
    network.load_state_dict(safetensors.torch.load(weights), assign=True)
    return network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
