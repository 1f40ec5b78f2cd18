"""What are the values and the derivatives of a loss that a recipe brings along?"""

import torch
from torch import Tensor

from gan.recipes.base import CustomLoss
from gan.recipes.custom.wrapped import call, check_shape


def loss_grads(loss: CustomLoss, where: str, logits: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """Write (g_loss, d_loss) of the logits (2B,) of fakes and reals.

    Return the gradients of g_loss (B, 1) by the fakes' logits and of d_loss (2B, 1) by all of them. `where` is how
    messages name the recipe. Raises RecipeError where a loss fails or has another shape than ().
    """
    with torch.enable_grad():
        fake, real = (half.detach().requires_grad_() for half in logits.chunk(2))
        g_loss = check_shape(
            f"{where}: its generator's loss", call(f"{where}: its generator's loss", loss.generator, fake), ()
        )
        d_where = f"{where}: its discriminator's loss"
        d_loss = check_shape(d_where, call(d_where, loss.discriminator, fake, real), ())
    (g_grad,) = _grads(f"{where}: its generator's loss", g_loss, fake)
    d_grads = _grads(d_where, d_loss, fake, real)
    losses.copy_(torch.stack([g_loss.detach(), d_loss.detach()]))
    return g_grad.unsqueeze(1), torch.cat(d_grads).unsqueeze(1)


def loss_slopes(loss: CustomLoss, where: str, logits: Tensor, is_real: Tensor) -> Tensor:
    """Return (2B,): the absolute derivative of each image's d_loss by its logit, as binary cross-entropy has it.

    Its mean over fakes and that over reals count for one half each.
    """
    order = is_real.int().argsort(stable=True)  # the fakes first
    _, grads = loss_grads(loss, where, logits[order], logits.new_empty(2))
    return grads.squeeze(1)[order.argsort()].abs() * len(logits)


def _grads(where: str, loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    def differentiate() -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True, retain_graph=True)

    found: tuple[Tensor, ...] = call(where, differentiate)
    return found
