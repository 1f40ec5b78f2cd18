"""Does Adam with bfloat16 copies of the weights update as plain Adam does?"""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from gan.engine.adam import Adam, MixedPrecisionAdam, Moments
from gan.engine.cpu import kernels
from gan.engine.cpu.kernels import as_array

LAYER_SIZES = (2, 4, 2)  # parameters of each layer: weight, bias, and those of the norm after it


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 50), nn.BatchNorm1d(50), nn.Linear(50, 1))


@pytest.mark.parametrize("averaged", [True, False])
def test_updates_equal_plain_adams_and_copies_are_the_rounded_weights(network: nn.Sequential, averaged: bool) -> None:
    twin = copy.deepcopy(network)
    averages = [copy.deepcopy(network) if averaged else None for _ in range(2)]
    mixed = MixedPrecisionAdam(network, Moments.zeros(network), (0.5, 0.99), LAYER_SIZES, averages[0])
    adam = Adam(twin, Moments.zeros(twin), (0.5, 0.99), LAYER_SIZES, averages[1])
    assert [grad.dtype for grad in mixed.grads[::2]] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    for step in range(1, 6):
        for ours, theirs in zip(mixed.grads, adam.grads, strict=True):
            ours.normal_()
            theirs.copy_(ours)
        for each, net in ((mixed, network), (adam, twin)):
            net[2].running_mean.fill_(step)
            each.begin(1e-2, 0.1)
            for layer in range(3):
                each.update(layer)
    pairs = [(network, twin), averages] if averaged else [(network, twin)]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mixed.exp_avg, adam.exp_avg, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mixed.exp_avg_sq, adam.exp_avg_sq, rtol=1e-6, atol=1e-6)
    weights = [network[0].weight, network[1].weight]
    assert all(torch.equal(mine, weight.to(torch.bfloat16)) for mine, weight in zip(mixed.copies, weights, strict=True))


def test_kernels_round_to_bfloat16_as_torch_does() -> None:
    some = np.random.default_rng(0).integers(2**32, size=100_000, dtype=np.uint32)
    halfway = (some & 0xFFFF0000) | 0x8000  # between two numbers of bfloat16
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-45], np.float32)
    numbers = np.concatenate([some.view(np.float32), halfway.view(np.float32), special])
    numbers = numbers[~np.isnan(numbers) | (numbers.view(np.uint32) == special.view(np.uint32)[4])]
    out = torch.zeros(1, len(numbers), dtype=torch.bfloat16)
    kernels.add_bias(numbers[np.newaxis], np.full_like(numbers, -0.0), as_array(out))
    torch.testing.assert_close(out[0], torch.from_numpy(numbers).to(torch.bfloat16), rtol=0, atol=0, equal_nan=True)
