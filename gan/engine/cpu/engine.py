"""How do networks of linear layers go forward and back on a CPU?

By torch's products and compiled kernels, on memory that is laid out once: what a step allocates, and what it tells
torch to do in small pieces, costs as much as half of its products.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from gan.config import TrainConfig
from gan.data.batches import Real
from gan.engine.base import R1_EVERY
from gan.engine.cpu import kernels
from gan.engine.cpu.buffers import Head, Matrix, Rows, layers_of, linears_of
from gan.engine.cpu.matmul import multiply_for
from gan.engine.cpu.threads import lanes_of
from gan.engine.linear import D_LAYERS, G_LAYERS, SLOPE_G, MlpEngine
from gan.engine.narrow_adam import NARROW, NarrowAdam, bits
from gan.engine.state import TrainState
from gan.recipes.networks import NUM_PIXELS


class CpuEngine(MlpEngine):
    """Take steps on a CPU: products of the config's precision, everything between them in the weights' own."""

    def __init__(self, state: TrainState, config: TrainConfig) -> None:
        """Start a helper in bfloat16 on two or more threads: it has half of these, the thread that takes steps as many.

        In float32, whose products take longer, it is quicker to spread each of them over all threads.
        """
        narrow = config.precision == "bfloat16"
        self.num_threads = config.num_threads or 1
        self.num_helping = self.num_threads // 2 if narrow else 0
        if narrow:
            super().__init__(state, config, NARROW, (G_LAYERS, D_LAYERS), NarrowAdam)
        else:
            super().__init__(state, config, state.fixed_z.dtype)
        self.multiply = multiply_for(self.dtype)
        batch, of_g, (*of_d, head) = config.batch_size, linears_of(state.generator), linears_of(state.discriminator)
        self.g_layers = layers_of(of_g, self.g_adam, G_LAYERS, batch, [None, *self.norms, None])
        self.d_layers = layers_of(of_d, self.d_adam, D_LAYERS[:3], 2 * batch, [None] * 3)
        weight_grad, bias_grad = (grad.numpy() for grad in self.d_adam.grads[-2:])
        self.head = Head(head.weight.data.numpy(), head.bias.data.numpy(), weight_grad, bias_grad)
        images, self.logits = Matrix.of(2 * batch, NUM_PIXELS, self.dtype), Matrix.of(2 * batch, 1, self.master)
        self.d_inputs = [images, *(layer.output for layer in self.d_layers)]
        d_rows = self.d_inputs, [layer.delta for layer in self.d_layers], self.logits
        self.reals = Rows.of(slice(batch, None), *d_rows)
        # What goes through D with the fakes: the reals, too, unless there is a helper, which need not wait for fakes.
        self.own = Rows.of(slice(batch) if self.num_helping else slice(None), *d_rows)
        self.pixels = Matrix.of(batch, NUM_PIXELS, self.master)  # torch's tanh takes six times as long in bfloat16
        self.fake_delta = Matrix.of(batch, NUM_PIXELS, self.dtype)
        self.g_slopes, self.d_slopes = Matrix.of(batch, 1, self.master), Matrix.of(2 * batch, 1, self.master)
        self.judge_kernel = kernels.judge_rectified if config.recipe == "published" else kernels.judge
        # G's last layer is the first to be updated; this thread, which needs its first layer first, comes to meet it.
        self.lanes = lanes_of(self, len(G_LAYERS) + len(D_LAYERS) + 1, self.num_helping)
        *updates, self.looking = self.lanes
        self.g_updates, self.d_updates = updates[: len(G_LAYERS)][::-1], updates[len(G_LAYERS) :]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Compute on the run's threads while steps are taken; then finish all updates, or none after an error."""
        # As many as the helper's, since the bits must not depend on who takes a task.
        torch.set_num_threads(self.num_helping or self.num_threads)
        try:
            yield
            self.settle()
        except BaseException:
            for lane in self.lanes:
                lane.drop()
            raise
        finally:
            torch.set_num_threads(self.num_threads)

    def settle(self) -> None:
        """Finish all updates of the steps taken."""
        for lane in (*self.g_updates, *self.d_updates):
            lane.settle()

    def flush(self) -> None:
        """Finish all updates, then set Adam's moments to 0 that are too small to matter."""
        self.settle()
        super().flush()

    def show(self, real: Real) -> None:
        """Let D see the reals: the helper, if there is one, takes them there and back."""
        self.looking.add(partial(self.look, real))

    def look(self, real: Real) -> None:
        """Lay the reals before D, and take them there and back unless that goes with the fakes."""
        self.place(self.reals.images, real.images.flatten(1), real.digits, self.reals.which)
        if self.num_helping:
            self.pass_d(self.reals)
            for _ in self.deltas_d(self.reals):
                pass

    def forward_g(self, z: Tensor) -> Tensor:
        """Return fakes (B, 784) in [-1, 1]; keep each layer's output."""
        self.g_updates[0].settle()  # it reads z and the norms' running statistics
        if self.config.conditional:
            self.fake_digits = self.state.generator.digits(z)
            z = self.state.generator.inputs(z, self.fake_digits)
        self.z, inputs = z, z
        for index, layer in enumerate(self.g_layers):
            for lane in self.g_updates[index : index + 2]:  # of its weight, and the one that reads what it writes
                lane.settle()
            self.multiply(inputs, layer.weight_t, out=layer.raw.tensor)
            inputs = layer.output.tensor
            if norm := layer.norm:
                kernels.normalise(
                    layer.raw.array, layer.bias, norm.scale, norm.shift, norm.momentum, norm.eps, SLOPE_G,
                    norm.running_mean, norm.running_var, layer.output.array, norm.mean, norm.inv_std,
                )  # fmt: skip
            elif layer is not self.g_layers[-1]:
                kernels.rectify(layer.bias, SLOPE_G, layer.output.array)
        self.num_tracked.add_(1)
        kernels.add(layer.raw.array, layer.bias, self.pixels.array)
        return self.pixels.tensor.tanh_()

    def forward_d(self, fakes: Tensor) -> Tensor:
        """Return the logits (2B,), before a rectified head; keep each layer's output."""
        batch = slice(len(fakes))
        self.place(self.own.images[batch], fakes, self.fake_digits, batch)
        self.pass_d(self.own)
        self.looking.settle()
        return self.logits.tensor.squeeze(1)

    def place(self, seen: Tensor, images: Tensor, digits: Tensor, rows: slice) -> None:
        """Write images (B, 784) to where D sees them, shifted, and told which digits (B,) they are to be."""
        for lane in self.d_updates:  # of the step before
            lane.settle()
        seen.copy_(images if self.chosen is None else self.shifts.there(images, self.chosen[rows]))
        if self.config.conditional:
            self.tell(seen, digits)

    def pass_d(self, rows: Rows) -> None:
        """Write the logits of what D sees; keep each layer's output."""
        inputs = rows.images
        for index, (layer, output) in enumerate(zip(self.d_layers, rows.outputs, strict=True)):
            self.multiply(inputs, layer.weight_t, out=output.tensor)
            kernels.rectify(layer.bias, self.slope, output.array)
            if self.masks:
                output.tensor.mul_(self.masks[index][rows.which])
            inputs = output.tensor
        kernels.head(rows.outputs[-1].array, self.head.weight, self.head.bias, rows.logits.array)

    def judge(self, logits: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Write (g_loss, d_loss); return the derivatives of g_loss (B, 1) and of d_loss (2B, 1) by the logits."""
        self.judge_kernel(logits.numpy(), self.g_slopes.array, self.d_slopes.array, losses.numpy())
        return self.g_slopes.tensor, self.d_slopes.tensor

    def backward_d(self, slopes: Tensor) -> Tensor:
        """Update D; return the gradients (B, 784) of the fakes' logits by pixel.

        D does not mix rows, so one way back, of each logit on its own, serves both losses: times d_loss's slope by
        that logit a row is D's, times g_loss's it is G's.
        """
        layers, self.penalties = self.deltas_d(self.own), list[Tensor | None]([None] * len(D_LAYERS))
        if self.penalised:
            layers = iter([*layers])  # all of the way back first: the penalty reads every layer as it was
            self.penalties = [*self.penalty_grads()]
        for index in layers:
            if index:
                self.d_updates[index].add(partial(self.update_d, index, self.penalties[index]))
        return self.fake_delta.tensor

    def deltas_d(self, rows: Rows) -> Iterator[int]:
        """Yield each layer, the last first, once the deltas by its output are there and its weight was read."""
        kernels.head_back(rows.outputs[-1].array, self.head.weight, self.slope, rows.deltas[-1].array)
        yield 3
        for index in (2, 1, 0):
            weight, delta = self.d_layers[index].weight, rows.deltas[index].tensor
            if self.masks:
                delta.mul_(self.masks[index][rows.which])
            if index:
                below = rows.deltas[index - 1]
                self.multiply(delta, weight, out=below.tensor)
                kernels.rectify_back(rows.outputs[index - 1].array, self.slope, below.array)
            elif rows is self.own:  # nobody reads the reals' pixels
                self.multiply(delta[: self.config.batch_size], weight, out=self.fake_delta.tensor)
            yield index

    def penalty_grads(self) -> list[Tensor]:
        """Return R1's gradients by D's weights.

        The reals' gradient by pixel is a product of weights with slopes of rectifiers between them, which are
        constants: its own gradients take one more way forward, that begins with what the way back ends with.
        """
        reals = self.reals
        ahead = self.multiply(reals.deltas[0].tensor, self.d_layers[0].weight)  # (B, 784)
        ahead = ahead.mul_(self.r1_gamma * R1_EVERY / len(ahead))
        grads = []
        for index, layer in enumerate(self.d_layers):
            grads.append(self.multiply(reals.deltas[index].tensor.t(), ahead))
            ahead = self.multiply(ahead, layer.weight_t)
            kernels.rectify_back(reals.outputs[index].array, self.slope, bits(ahead))
            if self.masks:
                ahead.mul_(self.masks[index][reals.which])
        return [*grads, ahead.sum(0, keepdim=True)]

    def update_d(self, index: int, penalty: Tensor | None) -> None:
        """Update a layer by d_loss and by R1's gradient, if it is given."""
        inputs, slopes = self.d_inputs[index], self.d_slopes.array
        if index == 3:
            kernels.head_grads(inputs.array, slopes, self.head.weight_grad, self.head.bias_grad)
        else:
            layer = self.d_layers[index]
            kernels.weigh(layer.delta.array, slopes, layer.weighted.array, layer.bias_grad)
            self.multiply(layer.weighted_t, inputs.tensor, out=layer.weight_grad)
        if penalty is not None:
            self.d_adam.grads[2 * index].add_(penalty)
        self.d_adam.update(index)

    def backward_g(self, delta: Tensor, slopes: Tensor) -> None:
        """Update G, given the logits' gradients (B, 784) by the fakes and g_loss's (B, 1) by the logits."""
        last = self.g_layers[-1]
        kernels.weigh_tanh(bits(delta), slopes.numpy(), self.pixels.array, last.delta.array)
        for index in (4, 3, 2, 1):
            layer, below = self.g_layers[index], self.g_layers[index - 1]
            self.multiply(layer.delta.tensor, layer.weight, out=below.delta.tensor)
            self.g_updates[index].add(partial(self.update_g, index))
            if index == 4:  # D's largest comes after G's, which is needed first
                self.d_updates[0].add(partial(self.update_d, 0, self.penalties[0]))
            if norm := below.norm:
                kernels.normalise_back(
                    below.raw.array, below.output.array, norm.scale, norm.mean, norm.inv_std, SLOPE_G,
                    below.delta.array, norm.scale_grad, norm.shift_grad,
                )  # fmt: skip
            else:
                kernels.rectify_back(below.output.array, SLOPE_G, below.delta.array)
        self.g_updates[0].add(partial(self.update_g, 0))

    def update_g(self, index: int) -> None:
        """Update a layer, given g_loss's gradients by its output and by the norm after it, if there is one."""
        layer = self.g_layers[index]
        inputs = self.g_layers[index - 1].output.tensor if index else self.z
        self.multiply(layer.delta_t, inputs, out=layer.weight_grad)
        if not layer.norm:  # which takes out what a bias before it adds: its gradient stays 0
            kernels.add_rows(layer.delta.array, layer.bias_grad)
        self.g_adam.update(index)
