"""How do linear networks go forward and backward on a GPU?

By torch's operations, which a CUDA graph launches. They run on a CPU as well, for tests.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gan.config import RunConfig
from gan.engine.base import R1_EVERY, BackwardD, BackwardG, StepInputs, aten
from gan.engine.linear import G_SLOPE, Block, LinearEngine, grads_by_block
from gan.engine.state import TrainState


class Linear(NamedTuple):
    """A linear layer's parameters."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)


class NormInputs(NamedTuple):
    """What the backward pass of a batch norm reads."""

    raw: Tensor  # (B, width), before the norm
    mean: Tensor  # (width,)
    inv_std: Tensor  # (width,)


class GeneratorPass(NamedTuple):
    """What G's forward pass keeps for its backward pass."""

    inputs: list[Tensor]  # (B, in) of each layer
    norm_inputs: list[NormInputs | None]  # of each layer's norm
    fake: Tensor  # (B, 784)


class DiscriminatorPass(NamedTuple):
    """What D's forward pass keeps for its backward pass."""

    inputs: list[Tensor]  # (2B, in) of each layer
    head_input: Tensor  # (2B, in), in the parameters' dtype
    masks: list[Tensor]
    r1_due: bool


class GpuEngine(LinearEngine):
    """Take steps on a GPU: matrix products and activations have the config's precision."""

    def __init__(self, state: TrainState, config: RunConfig) -> None:
        """Copy the parameters where the products' dtype is another than theirs."""
        compute_dtype = torch.bfloat16 if config.precision == "bfloat16" else state.fixed_z.dtype
        super().__init__(state, config, compute_dtype)
        g_parameters, d_parameters = linears_of(self.g_blocks), linears_of(self.d_blocks)
        self.g_layers, d_layers = self.cast(g_parameters), self.cast(d_parameters)
        self.parameters = [tensor for linear in g_parameters + d_parameters for tensor in linear]
        self.copies = [tensor for linear in self.g_layers + d_layers for tensor in linear]
        *self.d_hidden, self.d_head_copy = d_layers
        self.d_head = d_parameters[-1]  # one output wide; the logits always have the parameters' dtype
        self.g_grads, self.d_grads = (
            grads_by_block(self.g_adam, self.g_blocks),
            grads_by_block(self.d_adam, self.d_blocks),
        )

    def cast(self, linears: list[Linear]) -> list[Linear]:
        """Return copies in the products' dtype. Where that is the parameters' own, these are the parameters."""
        return [Linear(linear.weight.to(self.compute_dtype), linear.bias.to(self.compute_dtype)) for linear in linears]

    def forward_g(self, inputs: StepInputs) -> tuple[Tensor, BackwardG]:
        """Return fakes (B, 784) in [-1, 1], and their backward pass."""
        if self.compute_dtype != self.param_dtype:
            torch._foreach_copy_(self.copies, self.parameters)  # as the last step left them
        z = inputs.z
        if inputs.fake_labels is not None:
            z = self.state.generator.inputs(z, inputs.fake_labels)
        layer_inputs, norm_inputs = [z], list[NormInputs | None]()
        *hidden_layers, last = self.g_layers
        for layer, (_, norm) in zip(hidden_layers, self.g_blocks, strict=False):
            hidden, kept = F.linear(layer_inputs[-1], *layer), None
            if norm:
                assert norm.momentum is not None
                raw = hidden
                hidden, mean, inv_std = torch.native_batch_norm(
                    raw, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
                )
                kept = NormInputs(raw, mean, inv_std)
            layer_inputs.append(F.leaky_relu_(hidden, G_SLOPE))
            norm_inputs.append(kept)
        self.num_batches_tracked.add_(1)
        fake = F.linear(layer_inputs[-1], *last).tanh_()
        return fake, partial(self.backward_g, GeneratorPass(layer_inputs, norm_inputs, fake))

    def forward_d(self, fake: Tensor, inputs: StepInputs) -> tuple[Tensor, BackwardD]:
        """Return the logits (2B,), before a rectified head, and their backward pass."""
        images = self.images_for_d(fake, inputs)
        if inputs.fake_labels is not None:
            self.mark_class(images, torch.cat([inputs.fake_labels, inputs.real.labels]))
        layer_inputs = [images]
        for index, layer in enumerate(self.d_hidden):
            hidden = F.leaky_relu_(F.linear(layer_inputs[-1], *layer), self.d_slope)
            if inputs.masks:
                hidden.mul_(inputs.masks[index])
            layer_inputs.append(hidden)
        hidden = layer_inputs[-1].to(self.param_dtype)
        logits = torch.addmv(self.d_head.bias, hidden, self.d_head.weight.squeeze(0))
        return logits, partial(self.backward_d, DiscriminatorPass(layer_inputs, hidden, inputs.masks, inputs.r1_due))

    def backward_d(self, kept: DiscriminatorPass, grad_logits: Tensor) -> Tensor:
        """Update D. Return the gradients (B, 784) of the fakes' logits by their pixels.

        D does not mix images. So one backward pass, of each logit by itself, serves both losses: times d_loss's
        gradient by the logit, a row is D's; times g_loss's gradient, it is G's.
        """
        logit_grads, fake_grad = self.logit_grads(kept)
        *hidden_grads, (head_weight_grad, head_bias_grad) = self.d_grads
        factors, products = grad_logits.to(self.compute_dtype), LateCopies()
        for grad, layer_input, (weight_grad, bias_grad) in zip(logit_grads, kept.inputs, hidden_grads, strict=False):
            self.write_grads(grad * factors, layer_input, weight_grad, bias_grad, products)
        products.copy()
        torch.mm(grad_logits.t(), kept.head_input, out=head_weight_grad)
        torch.sum(grad_logits, 0, out=head_bias_grad)
        if kept.r1_due:
            for (weight_grad, _), penalty_grad in zip(self.d_grads, self.penalty_grads(kept, logit_grads), strict=True):
                weight_grad.add_(penalty_grad)
        self.d_adam.update_all()
        return fake_grad

    def logit_grads(self, kept: DiscriminatorPass) -> tuple[list[Tensor], Tensor]:
        """Return each logit's gradients by every hidden layer before LeakyReLU (2B, out), and by the fakes (B, 784)."""
        batch = self.config.batch_size
        grad = self.d_head_copy.weight.expand(2 * batch, -1)
        by_layer: list[Tensor] = []
        for index in reversed(range(len(self.d_hidden))):
            grad = aten.leaky_relu_backward(grad, kept.inputs[index + 1], self.d_slope, True)
            if kept.masks:
                grad.mul_(kept.masks[index])
            by_layer.insert(0, grad)
            used = grad if index else grad[:batch]  # the gradients by the reals' pixels are not used
            grad = torch.mm(used, self.d_hidden[index].weight)
        return by_layer, grad

    def penalty_grads(self, kept: DiscriminatorPass, logit_grads: list[Tensor]) -> list[Tensor]:
        """Return R1's gradients by D's weights, the head's last.

        A real's gradient by pixel is a product of weights with constants, LeakyReLU's slopes, between them. So the
        penalty's gradients take one more forward pass, which starts with that gradient. docs/engine.md derives it.
        """
        batch = self.config.batch_size
        real_grads = [grad[batch:] for grad in logit_grads]
        hidden = torch.mm(real_grads[0], self.d_hidden[0].weight)  # (B, 784)
        hidden = hidden.mul_(self.r1_gamma * R1_EVERY / batch)
        grads = []
        for index, (layer, real_grad) in enumerate(zip(self.d_hidden, real_grads, strict=True)):
            grads.append(torch.mm(real_grad.t(), hidden))
            hidden = torch.mm(hidden, layer.weight.t())
            hidden = aten.leaky_relu_backward(hidden, kept.inputs[index + 1][batch:], self.d_slope, True)
            if kept.masks:
                hidden.mul_(kept.masks[index][batch:])
        return [*grads, hidden.sum(0, keepdim=True)]

    def backward_g(self, kept: GeneratorPass, fake_grad: Tensor, grad_logits: Tensor) -> None:
        """Update G, given the logits' gradients (B, 784) by the fakes and g_loss's (B, 1) by the logits."""
        grad = aten.tanh_backward((fake_grad * grad_logits).to(self.compute_dtype), kept.fake)
        norm_grads: list[Tensor] = []
        products, of_norms = LateCopies(), LateCopies()
        for index in reversed(range(len(self.g_layers))):
            weight_grad, bias_grad, *norm_targets = self.g_grads[index]
            # A norm subtracts the bias before it again: that bias's gradient stays 0. Autograd's is a rounding error.
            self.write_grads(grad, kept.inputs[index], weight_grad, None if norm_targets else bias_grad, products)
            of_norms.add(norm_targets, norm_grads)
            if index == 0:
                break
            grad = torch.mm(grad, self.g_layers[index].weight)
            grad, norm_grads = aten.leaky_relu_backward(grad, kept.inputs[index], G_SLOPE, True), []
            norm, norm_inputs = self.g_blocks[index - 1].norm, kept.norm_inputs[index - 1]
            if norm and norm_inputs:
                raw, mean, inv_std = norm_inputs
                grad, *norm_grads = aten.native_batch_norm_backward(
                    grad, raw, norm.weight, None, None, mean, inv_std, True, norm.eps, [True] * 3
                )
        products.copy()
        of_norms.copy()
        self.g_adam.update_all()

    def write_grads(
        self, grad: Tensor, layer_input: Tensor, weight_grad: Tensor, bias_grad: Tensor | None, products: "LateCopies"
    ) -> None:
        """Write the gradients by a layer's weight (out, in) and bias (out,), given those by its output (B, out).

        A product of another dtype than the weight's is added to `products`, which copies it later.
        """
        if self.compute_dtype == self.param_dtype:
            torch.mm(grad.t(), layer_input, out=weight_grad)
        else:
            products.add([weight_grad], [torch.mm(grad.t(), layer_input)])
        if bias_grad is not None:
            torch.sum(grad, 0, dtype=self.param_dtype, out=bias_grad)


class LateCopies:
    """Gradients that are copied to where Adam reads them, all by one kernel. Those of a kind have one dtype."""

    def __init__(self) -> None:
        self.targets: list[Tensor] = []
        self.grads: list[Tensor] = []

    def add(self, targets: list[Tensor], grads: list[Tensor]) -> None:
        """Keep gradients for `copy`."""
        self.targets += targets
        self.grads += grads

    def copy(self) -> None:
        """Copy all gradients that were added."""
        if self.grads:
            torch._foreach_copy_(self.targets, self.grads)


def linears_of(blocks: list[Block]) -> list[Linear]:
    """Return the parameters of each block's linear layer; not copies."""
    return [Linear(block.linear.weight.data, block.linear.bias.data) for block in blocks]
