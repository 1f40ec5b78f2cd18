"""How is a step computed: forward G, forward D, losses, backward D, backward G, Adam, EMA?

Everything is written out, because these networks are a dozen matrix products and a graph of autograd's costs as
much as half of them. B is the batch size; D sees 2B images at once, first the fakes, then the reals. A `delta` is
the gradient by a layer's output, a row an image.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.config import TrainConfig
from gan.networks import NUM_PIXELS, dropout_masks
from gan.products import products_for
from gan.shifts import Shifts
from gan.state import TrainState

aten = torch.ops.aten
SLOPE_G = 0.2  # of G's LeakyReLU
R1_EVERY = 10  # steps between two gradient penalties, each as strong as all of them (Karras et al. 2020, lazily)


class Linear(NamedTuple):
    """A linear layer as the products read it."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)


class Normed(NamedTuple):
    """What the way back through a batch norm reads."""

    raw: Tensor  # (B, width), before the norm
    mean: Tensor  # (width,)
    inv_std: Tensor  # (width,)


class Engine:
    """Take steps on a TrainState in place.

    Activations and products are of the config's precision; weights, moments, averages and losses of the state's own.
    """

    def __init__(self, state: TrainState, config: TrainConfig) -> None:
        """Read the state as it is now: whoever changes it otherwise than by `step` makes another Engine."""
        assert config.dropout is not None and config.ema_decay is not None and config.r1_gamma is not None
        assert config.precision != "auto"
        self.state, self.config = state, config
        self.dropout, self.r1_gamma, self.ema_decay = config.dropout, config.r1_gamma, config.ema_decay
        self.period = R1_EVERY if config.r1_gamma else 1  # steps after which the same is done again
        self.master = state.fixed_z.dtype
        self.dtype = dtype = torch.bfloat16 if config.precision == "bfloat16" else self.master
        self.products = products_for(state.device, dtype)
        self.live = join(floats(state.generator))
        self.averages = join(floats(state.ema)) if state.ema is not None else None
        generator, discriminator = state.generator.layers, state.discriminator.layers
        linears = [layer for layer in (*generator, *discriminator) if isinstance(layer, nn.Linear)]
        self.masters = [parameter.data for layer in linears for parameter in (layer.weight, layer.bias)]
        self.copies = [parameter.to(dtype) for parameter in self.masters]  # in the same dtype: the masters themselves
        layers = [Linear(*pair) for pair in zip(self.copies[::2], self.copies[1::2], strict=True)]
        self.g_layers, self.d_layers = layers[:5], layers[5:]
        self.head = Linear(*self.masters[-2:])  # the last of D, one output wide, is always in the state's dtype
        self.norms = [layer for layer in generator if isinstance(layer, nn.BatchNorm1d)]
        self.zero_grads = [torch.zeros_like(norm.bias) for norm in self.norms]
        self.num_tracked = join([t for norm in self.norms if (t := norm.num_batches_tracked) is not None])
        self.g_adam, self.d_adam = Adam(state.g_optimizer), Adam(state.d_optimizer)
        batch = config.batch_size
        self.images = torch.empty(2 * batch, NUM_PIXELS, device=state.device, dtype=dtype)
        self.shifts = Shifts(config.max_shift, self.images) if config.max_shift else None
        # Rows to judge: the fakes as G wants them, the fakes as D should see them, the reals; and each row's share
        # in g_loss and in d_loss.
        like = state.fixed_z
        self.labels = like.new_tensor([1, 0, 1]).repeat_interleave(batch)  # (3B,)
        self.shares = like.new_tensor([[1, 0, 0], [0, 0.5, 0.5]]).div(batch).repeat_interleave(batch, dim=1)  # (2, 3B)
        self.share = self.shares.sum(0)  # (3B,)
        # glibc returns freed memory at once, and each page costs a fault to get again, unless it is less than
        # twice the largest block it has yet seen freed, of 32 MB at most: here is one.
        torch.empty(31 << 20, dtype=torch.uint8)

    @torch.no_grad()
    def step(
        self, real: Tensor, losses: Tensor, ahead: int = 0, rates: Iterable[float | Tensor] | None = None
    ) -> Tensor:
        """Make one G update and one D update; return the fakes (B, 1, 28, 28) and write (g_loss, d_loss).

        It is the step after `state.step`, or so many `ahead` of that. `rates` are by default as that step says.
        """
        step = self.state.step + ahead
        learning_rate, ema_weight = rates or self.rates(step)
        z, masks = self.draw()
        fake = self.forward_g(z)  # (B, 784)
        torch.cat([fake, real.flatten(1)], out=self.images)
        shifts = self.shifts if self.config.refines_after(step) else None
        if shifts:
            chosen = shifts.draw(len(self.images), self.state.random)
            self.images = shifts.there(self.images, chosen)
        logits = self.forward_d(masks)  # (2B,)
        g_slopes, d_slopes = self.judge(logits, losses)  # (B, 1), (2B, 1)
        d_grads, fake_delta = self.backward_d(d_slopes, masks)
        if shifts:
            fake_delta = shifts.back(fake_delta, chosen[: len(fake)])
        g_grads = self.backward_g(fake_delta * g_slopes, fake)
        if step % self.period == 0 and self.r1_gamma:
            for grad, of_penalty in zip(d_grads[::2], self.penalty_grads(masks), strict=True):
                grad.add_(of_penalty)
        self.g_adam.step(g_grads, learning_rate)
        self.d_adam.step(d_grads, learning_rate)
        self.copy_weights()
        if self.averages is not None:
            self.averages.lerp_(self.live, ema_weight)
        return fake.view(-1, 1, 28, 28)

    def draw(self) -> tuple[Tensor, list[Tensor]]:
        """Draw latents (B, latent_dim), and dropout masks (2B, width) for D's hidden layers or none."""
        batch, random = self.config.batch_size, self.state.random
        shape = (batch, self.config.latent_dim)
        z = torch.randn(shape, generator=random, device=self.state.device, dtype=self.master)
        return z.to(self.dtype), dropout_masks(2 * batch, self.dropout, random, self.images)

    def forward_g(self, z: Tensor) -> Tensor:
        """Return fakes (B, 784) in [-1, 1]; keep each layer's input, and each norm's."""
        hidden = self.products.linear(z, *self.g_layers[0], "leaky_relu", SLOPE_G)
        self.g_inputs, self.normed = [z, hidden], []
        for layer, norm in zip(self.g_layers[1:4], self.norms, strict=True):
            assert norm.momentum is not None
            raw = self.products.linear(hidden, *layer)
            hidden, mean, inv_std = torch.native_batch_norm(
                raw, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
            )
            F.leaky_relu_(hidden, SLOPE_G)
            self.g_inputs.append(hidden)
            self.normed.append(Normed(raw, mean, inv_std))
        self.num_tracked.add_(1)
        return self.products.linear(hidden, *self.g_layers[4], "tanh")

    def forward_d(self, masks: list[Tensor]) -> Tensor:
        """Return the logits (2B,) of `images`, before a rectified head; keep each layer's input."""
        self.d_inputs = [self.images]
        for index, layer in enumerate(self.d_layers[:3]):
            hidden = self.products.linear(self.d_inputs[-1], *layer, "leaky_relu", self.state.discriminator.slope)
            if masks:
                hidden.mul_(masks[index])
            self.d_inputs.append(hidden)
        return F.linear(self.d_inputs[-1].to(self.master), *self.head).squeeze(1)

    def judge(self, logits: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Write (g_loss, d_loss); return the derivatives of g_loss (B, 1) and of d_loss (2B, 1) by the logits."""
        batch = self.config.batch_size
        rows = torch.cat([logits[:batch], logits])  # (3B,)
        if self.config.recipe == "published":
            probability = torch.sigmoid(F.relu(rows))
            row_losses = F.binary_cross_entropy(probability, self.labels, reduction="none")
            # BCELoss divides by the sigmoid's own derivative, but by 1e-12 where that is less: at p = 1 all is 0.
            spread = probability * (1 - probability)
            slopes = (probability - self.labels) * (spread / spread.clamp(min=1e-12)) * (rows > 0)
        else:
            row_losses = F.binary_cross_entropy_with_logits(rows, self.labels, reduction="none")
            slopes = torch.sigmoid(rows) - self.labels
        torch.mv(self.shares, row_losses, out=losses)
        slopes = slopes.mul_(self.share).unsqueeze(1)
        return slopes[:batch], slopes[batch:]

    def backward_d(self, slopes: Tensor, masks: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return d_loss's gradients by D's parameters, and the gradients (B, 784) of the fakes' logits by pixel.

        D does not mix rows, so one way back, of each logit on its own, serves both losses: times d_loss's slope by
        that logit a row is D's, times g_loss's it is G's.
        """
        last, slopes_ = self.d_inputs[-1].to(self.master), slopes.to(self.dtype)
        grads = [[torch.mm(slopes.t(), last), slopes.sum(0)]]
        delta = self.d_layers[3].weight.expand(len(slopes), -1)  # (2B, 128)
        self.d_deltas: list[Tensor] = []  # of the logits themselves, the first layer's first
        for index in (2, 1, 0):
            delta = aten.leaky_relu_backward(delta, self.d_inputs[index + 1], self.state.discriminator.slope, True)
            if masks:
                delta.mul_(masks[index])
            self.d_deltas.insert(0, delta)
            grads.append(self.layer_grads(delta * slopes_, self.d_inputs[index]))
            wanted = delta if index else delta[: self.config.batch_size]  # nobody reads the reals' pixels
            delta = self.products.multiply(wanted, self.d_layers[index].weight)
        return in_order(grads), delta

    def penalty_grads(self, masks: list[Tensor]) -> list[Tensor]:
        """Return the gradients by D's weights of R1, the reals' mean squared gradient by pixel times gamma / 2.

        (Mescheder et al. 2018.) That gradient is a product of weights with slopes of rectifiers between them, which are
        constants: its own gradients take one more way forward, that begins with what the way back ends with.
        """
        batch = self.config.batch_size
        deltas = [delta[batch:] for delta in self.d_deltas]
        ahead = self.products.multiply(deltas[0], self.d_layers[0].weight)  # (B, 784)
        ahead = ahead.mul_(self.r1_gamma * R1_EVERY / batch)
        grads = []
        for index, delta in enumerate(deltas):
            grads.append(self.products.multiply(delta.t(), ahead))
            ahead = self.products.multiply(ahead, self.d_layers[index].weight.t())
            inputs = self.d_inputs[index + 1][batch:]
            ahead = aten.leaky_relu_backward(ahead, inputs, self.state.discriminator.slope, True)
            if masks:
                ahead.mul_(masks[index][batch:])
        return [*grads, ahead.sum(0, keepdim=True)]

    def backward_g(self, delta: Tensor, fake: Tensor) -> list[Tensor]:
        """Return g_loss's gradients by G's parameters, given those (B, 784) by the fakes."""
        delta = aten.tanh_backward(delta.to(self.dtype), fake)
        grads = [self.layer_grads(delta, self.g_inputs[4])]
        for index in (3, 2, 1, 0):
            delta = self.products.multiply(delta, self.g_layers[index + 1].weight)
            delta = aten.leaky_relu_backward(delta, self.g_inputs[index + 1], SLOPE_G, True)
            if index == 0:
                grads.append(self.layer_grads(delta, self.g_inputs[0]))
                break
            norm, normed = self.norms[index - 1], self.normed[index - 1]
            delta, *norm_grads = aten.native_batch_norm_backward(
                delta, normed.raw, norm.weight, None, None, normed.mean, normed.inv_std, True, norm.eps, [True] * 3
            )
            # The norm takes out what a bias before it adds: its gradient is 0, and autograd's a rounding error.
            weight_grad = self.products.multiply(delta.t(), self.g_inputs[index]).to(self.master)
            grads.append([weight_grad, self.zero_grads[index - 1], *norm_grads])
        return in_order(grads)

    def layer_grads(self, delta: Tensor, inputs: Tensor) -> list[Tensor]:
        """Return the gradients by a layer's weight (out, in) and bias (out,)."""
        weight_grad = self.products.multiply(delta.t(), inputs)
        return [weight_grad.to(self.master), delta.sum(0).to(self.master)]

    def copy_weights(self) -> None:
        """Bring the weights that the products read up to the masters."""
        if self.dtype != self.master:
            torch._foreach_copy_(self.copies, self.masters)

    def rates(self, step: int) -> tuple[float, float]:
        """Return what changes from step to step: Adam's step size, and the live generator's weight in the average.

        That weight is greater in the first steps, when the average is still short. Both are numbers of the master's
        dtype, in which a GPU reads them.
        """
        config = self.config
        learning_rate = config.refine_learning_rate if config.refines_after(step) else config.learning_rate
        ema_weight = 1 - min(self.ema_decay, (step + 1) / (step + 10))
        rounded = torch.tensor([learning_rate, ema_weight], dtype=self.master).tolist()
        return rounded[0], rounded[1]


class Adam:
    """Adam on one network, without the optimizer's bookkeeping, on the optimizer's own tensors."""

    def __init__(self, optimizer: torch.optim.Adam) -> None:
        group = optimizer.param_groups[0]
        self.betas, self.eps = group["betas"], group["eps"]
        states = [optimizer.state[parameter] for parameter in group["params"]]
        self.parameters = [parameter.data for parameter in group["params"]]
        self.means, self.squares, self.steps = ([s[k] for s in states] for k in ("exp_avg", "exp_avg_sq", "step"))
        self.num_steps = join(self.steps)

    def step(self, grads: list[Tensor], learning_rate: float | Tensor) -> None:
        """Update the parameters by their gradients, given in the order of parameters()."""
        self.num_steps.add_(1)
        beta1, beta2 = self.betas
        torch._fused_adam_(
            self.parameters, grads, self.means, self.squares, [], self.steps, lr=learning_rate, beta1=beta1,
            beta2=beta2, eps=self.eps, weight_decay=0.0, amsgrad=False, maximize=False,
        )  # fmt: skip


def in_order(grads: list[list[Tensor]]) -> list[Tensor]:
    """Flatten gradients, found from the last layer to the first, into the order of parameters()."""
    return [grad for layer in reversed(grads) for grad in layer]


def floats(network: nn.Module) -> list[Tensor]:
    """Return a network's parameters and running statistics themselves."""
    return [t for t in network.state_dict(keep_vars=True).values() if t.is_floating_point()]


def join(tensors: list[Tensor]) -> Tensor:
    """Make tensors views of one new tensor, so that one operation changes them all."""
    joined = torch.cat([t.data.flatten() for t in tensors])
    for t, view in zip(tensors, torch.split(joined, [t.numel() for t in tensors]), strict=True):
        t.data = view.view(t.shape)
    return joined
