"""How do linear networks go forward and backward on a CPU?

By torch's matrix products and compiled kernels, on buffers that are laid out once. Buffers are attributes: each step
overwrites them. Allocation, and many small torch operations, would cost half as much as the products.

Where a second thread helps, the main thread must not write a buffer, nor read a parameter, that a submitted task still
uses. So it waits for that task's slot first. docs/engine.md shows who does what.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from gan.config import RunConfig
from gan.engine.adam import Adam, MixedPrecisionAdam
from gan.engine.base import R1_EVERY, BackwardD, BackwardG, StepInputs
from gan.engine.cpu import kernels
from gan.engine.cpu.buffers import BatchPart, Head, Matrix, make_layers
from gan.engine.cpu.kernels import as_array
from gan.engine.cpu.matmul import choose_matmul
from gan.engine.cpu.threads import make_task_slots
from gan.engine.linear import G_SLOPE, LinearEngine
from gan.engine.state import TrainState
from gan.recipes.generator import NUM_PIXELS
from gan.recipes.resolve import recipe_of


class CpuEngine(LinearEngine):
    """Take steps on a CPU: matrix products have the config's precision, all else the parameters' dtype."""

    def __init__(self, state: TrainState, config: RunConfig) -> None:
        """Lay out the buffers. In bfloat16 with two or more threads, start a second thread, which gets half of them.

        In float32 the products take longer, and it is faster to spread each of them over all threads.
        """
        mixed = config.precision == "bfloat16"
        self.num_threads = config.num_threads or 1
        self.num_second = self.num_threads // 2 if mixed else 0  # cores of the second thread; 0: there is none
        compute_dtype = torch.bfloat16 if mixed else state.fixed_z.dtype
        super().__init__(state, config, compute_dtype, MixedPrecisionAdam if mixed else Adam)
        self.matmul = choose_matmul(compute_dtype)
        self._lay_out_buffers()
        # The most urgent slot first. After G's last layer, which is the first that can be updated, the second thread
        # goes on to earlier layers. The main thread needs the first layer first: the two start from opposite ends.
        num_g, num_d = len(self.g_blocks), len(self.d_blocks)
        self.slots = make_task_slots(self, num_g + num_d + 1, self.num_second)
        *updates, self.reals_slot = self.slots
        self.g_updates, self.d_updates = updates[:num_g][::-1], updates[num_g:]  # in the order of the layers

    def _lay_out_buffers(self) -> None:
        batch, compute_dtype, param_dtype = self.config.batch_size, self.compute_dtype, self.param_dtype
        *hidden_blocks, head_block = self.d_blocks
        self.g_layers = make_layers(self.g_blocks, self.g_adam, batch)
        self.d_hidden = make_layers(hidden_blocks, self.d_adam, 2 * batch)
        self.d_head = Head.of(head_block.linear, *self.d_adam.grads[-head_block.num_parameters :])
        self.fake = Matrix.zeros(batch, NUM_PIXELS, param_dtype)  # torch's tanh is six times as slow in bfloat16
        self.fake_grad = Matrix.zeros(batch, NUM_PIXELS, compute_dtype)  # of each fake's logit
        self.images = Matrix.zeros(2 * batch, NUM_PIXELS, compute_dtype)  # as D sees them
        self.logits = Matrix.zeros(2 * batch, 1, param_dtype)
        self.g_grad_logits = Matrix.zeros(batch, 1, param_dtype)
        self.d_grad_logits = Matrix.zeros(2 * batch, 1, param_dtype)
        weights = [block.linear.weight for block in self.d_blocks if self.r1_gamma]
        self.penalty_grads = [torch.zeros_like(weight.data, dtype=compute_dtype) for weight in weights]
        d_buffers = self.images, self.d_hidden, self.logits
        self.reals = BatchPart.of(slice(batch, None), *d_buffers)
        # The main thread's part. The second thread starts on the reals early, since they do not depend on the fakes.
        self.main_part = BatchPart.of(slice(batch) if self.num_second else slice(None), *d_buffers)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Set torch's threads as the run has them. At the end, finish all updates; after an error, discard them."""
        # Both threads use the same number of cores, since the bits must not depend on which of them runs a task.
        torch.set_num_threads(self.num_second or self.num_threads)
        try:
            yield
            self.wait_for_updates()
        except BaseException:
            for slot in self.slots:
                slot.discard()
            raise
        finally:
            torch.set_num_threads(self.num_threads)

    def wait_for_updates(self) -> None:
        """Finish all updates of the steps taken."""
        for slot in (*self.g_updates, *self.d_updates):
            slot.wait()

    def zero_small_moments(self) -> None:
        """Finish all updates, then set to 0 the moments of Adam that are too small to matter."""
        self.wait_for_updates()
        super().zero_small_moments()

    def start_on_reals(self, inputs: StepInputs) -> None:
        """Write the reals to D's buffer. The second thread, if there is one, passes them through D."""
        self.reals_slot.submit(partial(self.run_reals, inputs))

    def run_reals(self, inputs: StepInputs) -> None:
        """Write the reals to D's buffer, and pass them forward and backward unless that is done with the fakes."""
        real, labels = inputs.real.images.flatten(1), inputs.real.labels if self.config.conditional else None
        self.write_images(self.reals.rows, real, labels, inputs.translations)
        if self.num_second:
            self.forward_part(self.reals, inputs)
            for _ in self.backward_part(self.reals, inputs):
                pass

    def forward_g(self, inputs: StepInputs) -> tuple[Tensor, BackwardG]:
        """Return fakes (B, 784) in [-1, 1], and their backward pass."""
        z = inputs.z
        if inputs.fake_labels is not None:
            z = self.state.generator.inputs(z, inputs.fake_labels)
        self.g_updates[0].wait()  # it averages the norms' running statistics
        layer_input = z
        for index, layer in enumerate(self.g_layers):
            # The update of this layer writes the weight; the next layer's reads this layer's output.
            for slot in self.g_updates[index : index + 2]:
                slot.wait()
            self.matmul(layer_input, layer.weight_t, out=layer.raw.tensor)
            layer_input = layer.output.tensor
            if norm := layer.norm:
                kernels.batch_norm_leaky_relu(
                    layer.raw.array, layer.bias, norm.scale, norm.shift, norm.momentum, norm.eps, G_SLOPE,
                    norm.running_mean, norm.running_var, layer.output.array, norm.mean, norm.inv_std,
                )  # fmt: skip
            elif layer is not self.g_layers[-1]:
                kernels.add_bias_leaky_relu(layer.bias, G_SLOPE, layer.output.array)
        self.num_batches_tracked.add_(1)
        kernels.add_bias(layer.raw.array, layer.bias, self.fake.array)
        return self.fake.tensor.tanh_(), partial(self.backward_g, z, inputs.r1_due)

    def forward_d(self, fake: Tensor, inputs: StepInputs) -> tuple[Tensor, BackwardD]:
        """Return the logits (2B,), before a rectified head, and their backward pass."""
        self.write_images(slice(len(fake)), fake, inputs.fake_labels, inputs.translations)
        self.forward_part(self.main_part, inputs)
        self.reals_slot.wait()
        return self.logits.tensor.squeeze(1), partial(self.backward_d, inputs)

    def write_images(self, rows: slice, images: Tensor, labels: Tensor | None, translations: Tensor | None) -> None:
        """Write fakes or reals (B, 784) to these rows of D's buffer: translated, and marked with their labels (B,)."""
        for slot in self.d_updates:  # of the step before
            slot.wait()
        target = self.images.tensor[rows]
        target.copy_(images if translations is None else self.translation.apply(images, translations[rows]))
        if labels is not None:
            self.mark_class(target, labels)

    def forward_part(self, part: BatchPart, inputs: StepInputs) -> None:
        """Write the logits, and each hidden layer's output, of some of D's images."""
        layer_input = part.images
        for index, (layer, output) in enumerate(zip(self.d_hidden, part.outputs, strict=True)):
            self.matmul(layer_input, layer.weight_t, out=output.tensor)
            kernels.add_bias_leaky_relu(layer.bias, self.d_slope, output.array)
            if inputs.masks:
                output.tensor.mul_(inputs.masks[index][part.rows])
            layer_input = output.tensor
        kernels.head(part.outputs[-1].array, self.d_head.weight, self.d_head.bias, part.logits.array)

    def compute_losses(self, logits: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Write (g_loss, d_loss). Return the gradients of g_loss (B, 1) and of d_loss (2B, 1) by the logits."""
        rectified = recipe_of(self.config).loss == "rectified_bce"
        kernel = kernels.rectified_sigmoid_losses if rectified else kernels.logit_losses
        kernel(logits.numpy(), self.g_grad_logits.array, self.d_grad_logits.array, losses.numpy())
        return self.g_grad_logits.tensor, self.d_grad_logits.tensor

    def backward_d(self, inputs: StepInputs, grad_logits: Tensor) -> Tensor:
        """Update D, all but its first layer, by the gradients in `d_grad_logits`.

        Return the gradients (B, 784) of the fakes' logits by their pixels.

        D does not mix images. So one backward pass, of each logit by itself, serves both losses: times d_loss's
        gradient by the logit, a row is D's; times g_loss's gradient, it is G's.
        """
        layers: Iterable[int] = self.backward_part(self.main_part, inputs)
        if inputs.r1_due:
            layers = list(layers)  # R1 reads all layers' weights, so no update may start before
            self.write_penalty_grads(inputs)
        for index in layers:
            if index == len(self.d_hidden):
                self.d_updates[index].submit(partial(self.update_head, inputs.r1_due))
            elif index:  # backward_g submits the first layer's update
                self.d_updates[index].submit(partial(self.update_d, index, inputs.r1_due))
        return self.fake_grad.tensor

    def backward_part(self, part: BatchPart, inputs: StepInputs) -> Iterator[int]:
        """Write the gradients of some of D's logits. Yield each layer, the head first, once it may be updated."""
        kernels.head_backward(part.outputs[-1].array, self.d_head.weight, self.d_slope, part.grads[-1].array)
        yield len(self.d_hidden)
        for index in reversed(range(len(self.d_hidden))):
            weight, grad = self.d_hidden[index].weight, part.grads[index].tensor
            if inputs.masks:
                grad.mul_(inputs.masks[index][part.rows])
            if index:
                input_grad = part.grads[index - 1]
                self.matmul(grad, weight, out=input_grad.tensor)
                kernels.leaky_relu_backward(part.outputs[index - 1].array, self.d_slope, input_grad.array)
            elif part is self.main_part:  # the gradients by the reals' pixels are not used
                self.matmul(grad[: self.config.batch_size], weight, out=self.fake_grad.tensor)
            yield index

    def write_penalty_grads(self, inputs: StepInputs) -> None:
        """Write R1's gradients by D's weights.

        A real's gradient by pixel is a product of weights with constants, LeakyReLU's slopes, between them. So the
        penalty's gradients take one more forward pass, which starts with that gradient. docs/engine.md derives it.
        """
        reals = self.reals
        *hidden_targets, head_target = self.penalty_grads
        hidden = self.matmul(reals.grads[0].tensor, self.d_hidden[0].weight)  # (B, 784)
        hidden = hidden.mul_(self.r1_gamma * R1_EVERY / len(hidden))
        for index, (layer, target) in enumerate(zip(self.d_hidden, hidden_targets, strict=True)):
            self.matmul(reals.grads[index].tensor.t(), hidden, out=target)
            hidden = self.matmul(hidden, layer.weight_t)
            kernels.leaky_relu_backward(reals.outputs[index].array, self.d_slope, as_array(hidden))
            if inputs.masks:
                hidden.mul_(inputs.masks[index][reals.rows])
        torch.sum(hidden, 0, keepdim=True, out=head_target)

    def update_head(self, r1_due: bool) -> None:
        """Update D's head by d_loss, and by R1 if it is due."""
        head, index = self.d_head, len(self.d_hidden)
        hidden = self.d_hidden[-1].output.array
        kernels.head_grads(hidden, self.d_grad_logits.array, head.weight_grad.array, head.bias_grad)
        if r1_due:
            head.weight_grad.tensor.add_(self.penalty_grads[index])
        self.d_adam.update(index)

    def update_d(self, index: int, r1_due: bool) -> None:
        """Update a hidden layer of D by d_loss, and by R1 if it is due."""
        layer = self.d_hidden[index]
        layer_input = self.d_hidden[index - 1].output if index else self.images
        kernels.scale_rows(layer.grad.array, self.d_grad_logits.array, layer.loss_grad.array, layer.bias_grad)
        self.matmul(layer.loss_grad.tensor.t(), layer_input.tensor, out=layer.weight_grad)
        if r1_due:
            layer.weight_grad.add_(self.penalty_grads[index])
        self.d_adam.update(index)

    def backward_g(self, z: Tensor, r1_due: bool, fake_grad: Tensor, grad_logits: Tensor) -> None:
        """Update G, given the logits' gradients (B, 784) by the fakes and g_loss's (B, 1) by the logits."""
        last = self.g_layers[-1]
        kernels.tanh_backward(as_array(fake_grad), grad_logits.numpy(), self.fake.array, last.grad.array)
        for index in reversed(range(1, len(self.g_layers))):
            layer, before = self.g_layers[index], self.g_layers[index - 1]
            self.matmul(layer.grad.tensor, layer.weight, out=before.grad.tensor)
            self.g_updates[index].submit(partial(self.update_g, index, before.output.tensor))
            if layer is last:
                # The update of D's first layer is D's largest. It comes after G's largest, which is more urgent.
                self.d_updates[0].submit(partial(self.update_d, 0, r1_due))
            if norm := before.norm:
                kernels.batch_norm_leaky_relu_backward(
                    before.raw.array, before.output.array, norm.scale, norm.mean, norm.inv_std, G_SLOPE,
                    before.grad.array, norm.scale_grad, norm.shift_grad,
                )  # fmt: skip
            else:
                kernels.leaky_relu_backward(before.output.array, G_SLOPE, before.grad.array)
        self.g_updates[0].submit(partial(self.update_g, 0, z))

    def update_g(self, index: int, layer_input: Tensor) -> None:
        """Update a layer of G by the gradients in its buffers."""
        layer = self.g_layers[index]
        self.matmul(layer.grad.tensor.t(), layer_input, out=layer.weight_grad)
        if not layer.norm:  # a norm subtracts the bias before it again, so that bias's gradient stays 0
            kernels.sum_rows(layer.grad.array, layer.bias_grad)
        self.g_adam.update(index)
