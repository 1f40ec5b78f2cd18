"""How fast is the tutorial's step with torch.compile? The images are on the device, and the losses are not read.

The sum of both losses has one backward pass: G's loss sees a copy of D that takes no gradient, and D's loss sees fakes
that take none. One fused Adam updates both networks.
"""

import os
import shutil
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.published_loop import BATCH_NORM_EPS, BATCH_SIZE, LATENT_DIM, LEARNING_RATE, batches_from_memory
from benchmarks.timing import Precision, Setting, TimeSteps, timed
from gan.data.dataset import load_dataset
from tests.support.reference import generator, published_discriminator

Losses = Callable[[Tensor], tuple[Tensor, Tensor]]  # of a batch (B, 1, 28, 28): G's and D's


def missing() -> str | None:
    """Return what torch.compile lacks here, and the command that installs it; None if nothing is missing."""
    return None if shutil.which("g++") else "a C++ compiler: apt install g++"


def prepare(setting: Setting, precision: Precision, mode: str | None = None) -> TimeSteps:
    """Prepare the loop. The first step compiles, always anew, so that its time can be told."""
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    images = torch.from_numpy(load_dataset(setting.data_dir).train_images).unsqueeze(1).to(setting.device)
    g, d = generator(LATENT_DIM, BATCH_NORM_EPS).to(setting.device), published_discriminator().to(setting.device)
    batches = batches_from_memory(images)
    step = stepper(g, d, torch.compile(losses_of(g, d, setting.device, precision), mode=mode))
    return timed(lambda: step(next(batches)), setting.device)


def losses_of(g: nn.Module, d: nn.Module, device: str, precision: Precision) -> Losses:
    """Return the function of both losses that is compiled."""
    loss = nn.BCELoss()
    ones, zeros = torch.ones(BATCH_SIZE, 1, device=device), torch.zeros(BATCH_SIZE, 1, device=device)

    def losses(real: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            fake = g(torch.randn(BATCH_SIZE, LATENT_DIM, device=device))
            frozen = {name: parameter.detach() for name, parameter in d.named_parameters()}
            for_g, of_real, of_fake = functional_call(d, frozen, (fake,)), d(real), d(fake.detach())
        d_loss = 0.5 * (loss(of_real.float(), ones) + loss(of_fake.float(), zeros))
        return loss(for_g.float(), ones), d_loss

    return losses


def stepper(g: nn.Module, d: nn.Module, losses: Losses) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return the function that takes a step and returns the losses of G and of D."""
    optimizer = torch.optim.Adam([*g.parameters(), *d.parameters()], lr=LEARNING_RATE, fused=True)

    def step(real: Tensor) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad()
        g_loss, d_loss = losses(real)
        torch.autograd.backward(g_loss + d_loss)
        optimizer.step()
        return g_loss.detach(), d_loss.detach()

    return step
