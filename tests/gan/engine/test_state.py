"""Is only the state of a training read from tensors, whoever has written them?"""

import pytest
import torch
from torch import Tensor

from gan.engine.state import TrainState
from gan.errors import CheckpointError
from tests.support.configs import run_config

STATE = TrainState(run_config(recipe="published", num_steps=10))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"random": torch.full_like(STATE.rng.get_state(), 255)}, "random is no state of a generator"),
        ({"random": torch.zeros(3, dtype=torch.uint8)}, r"random is torch\.uint8 \(3,\)"),
        ({"g_losses": torch.zeros(4)}, r"d_losses is torch\.float32 \(0,\), expected torch\.float32 \(4,\)"),
        ({"d_losses": torch.zeros(0, dtype=torch.bfloat16)}, r"d_losses is torch\.bfloat16"),
        ({"step": torch.zeros(2)}, r"step is torch\.float32 \(2,\)"),
        ({"health": torch.zeros(3)}, r"health is torch\.float32"),
        ({"health": torch.frombuffer(bytearray(b'{"rewinds": "x"}'), dtype=torch.uint8)}, "health: Input should be a"),
        ({"health": torch.frombuffer(bytearray(b'{"of_a_newer": 1}'), dtype=torch.uint8)}, "health: Extra inputs are"),
        ({"class_counts": torch.zeros(10)}, r"class_counts is torch\.float32"),
        ({"class_counts": torch.zeros(10, dtype=torch.int64)}, r"damaged: class_counts is \[0, 0"),
        ({"class_counts": torch.tensor([-1, *[5] * 9])}, r"damaged: class_counts is \[-1, 5"),
        ({"stop": torch.zeros(1)}, "missing or unknown tensors stop"),
    ],
)
def test_tensors_of_no_state_are_refused(damage: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"{message}.*Restore it from a copy, or use the gan-train that wrote it"):
        TrainState(run_config(recipe="published", num_steps=10)).load(STATE.tensors() | damage)
