"""How are the operations between a step's matrix products computed on a CPU?

Numba compiles these functions for the dtypes of the first call and caches them on disk. No function starts a thread or
holds Python's lock. B is the batch size, D a layer's width. The arrays that a function writes come last.

Numba has no bfloat16. An array in bfloat16 (activations and their gradients) is passed as its bits, uint16. `to_float`
reads a number of any array, `to_dtype_of` rounds a number for an array. Sums have the parameters' dtype, float32 or
float64. docs/engine.md derives the formulae.
"""

from collections.abc import Callable
from math import exp, log, log1p
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import overload
from torch import Tensor

from gan.compiled import Array, compiled, compiled_exact

MIN_LOG = -100.0  # torch.nn.BCELoss clamps its logarithms at this value
MIN_SIGMOID_GRAD = 1e-12  # and divides by no less than this


def as_array(tensor: Tensor) -> Array:
    """Return a tensor's memory as an array for these functions."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def to_float(number: Any) -> Any:
    """Return a number that is read from an array as a float: uint16 holds the bits of a bfloat16."""


@overload(to_float, inline="always", strict=False)
def _to_float(number: types.Type) -> Callable[..., Any]:
    if number == types.uint16:
        return lambda number: np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)
    return lambda number: number


def to_dtype_of(out: Array, number: Any) -> Any:
    """Return a float as `out` stores it. Bfloat16 rounds to the nearest, and a tie to even; NaN stays NaN."""


@overload(to_dtype_of, inline="always", strict=False)
def _to_dtype_of(out: types.Array, number: types.Type) -> Callable[..., Any]:
    def round_to_bfloat16(out: Array, number: Any) -> Any:
        bits = np.float32(number).view(np.uint32)
        last_bit = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
        return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + np.uint32(last_bit)) >> np.uint32(16))

    return round_to_bfloat16 if out.dtype == types.uint16 else lambda out, number: number


@compiled
def batch_norm_leaky_relu(
    raw: Array, bias: Array, scale: Array, shift: Array, momentum: float, eps: float, slope: float,
    running_mean: Array, running_var: Array, out: Array, mean: Array, inv_std: Array,
) -> None:  # fmt: skip
    """Normalise raw (B, D) + bias (D,) by the batch's statistics (Ioffe and Szegedy 2015), then apply LeakyReLU.

    Update the running statistics. `mean` is the mean of raw alone: the norm subtracts the bias again.
    """
    kind = mean.dtype.type
    count, one, weight, least, leak = kind(raw.shape[0]), kind(1), kind(momentum), kind(eps), kind(slope)
    mean[:] = kind(0)
    inv_std[:] = kind(0)
    for row in range(raw.shape[0]):
        for column in range(raw.shape[1]):
            mean[column] += to_float(raw[row, column])
    for column in range(raw.shape[1]):
        mean[column] /= count
    for row in range(raw.shape[0]):
        for column in range(raw.shape[1]):
            deviation = to_float(raw[row, column]) - mean[column]
            inv_std[column] += deviation * deviation  # the sum of squares for now
    for column in range(raw.shape[1]):
        squares = inv_std[column]
        running_mean[column] += weight * (mean[column] + bias[column] - running_mean[column])
        running_var[column] += weight * (squares / (count - one) - running_var[column])
        inv_std[column] = one / np.sqrt(squares / count + least)
    for row in range(raw.shape[0]):
        for column in range(raw.shape[1]):
            normal = (to_float(raw[row, column]) - mean[column]) * (inv_std[column] * scale[column]) + shift[column]
            out[row, column] = to_dtype_of(out, max(normal, normal * leak))


@compiled
def batch_norm_leaky_relu_backward(
    raw: Array, output: Array, scale: Array, mean: Array, inv_std: Array, slope: float,
    grad: Array, scale_grad: Array, shift_grad: Array,
) -> None:  # fmt: skip
    """Turn `grad`, the gradients by `output` (B, D), into those by `raw` in place. Write those by scale and shift."""
    kind = mean.dtype.type
    one, leak = kind(1), kind(slope)
    scale_grad[:] = kind(0)
    shift_grad[:] = kind(0)
    for row in range(raw.shape[0]):
        for column in range(raw.shape[1]):
            by_norm = to_float(grad[row, column]) * (one if to_float(output[row, column]) > 0 else leak)
            grad[row, column] = to_dtype_of(grad, by_norm)
            shift_grad[column] += by_norm
            scale_grad[column] += by_norm * (to_float(raw[row, column]) - mean[column])
    share = one / kind(raw.shape[0])
    for column in range(raw.shape[1]):
        scale_grad[column] *= inv_std[column]
    for row in range(raw.shape[0]):
        for column in range(raw.shape[1]):
            normal = (to_float(raw[row, column]) - mean[column]) * inv_std[column]
            common = share * (shift_grad[column] + normal * scale_grad[column])
            by_raw = (to_float(grad[row, column]) - common) * (inv_std[column] * scale[column])
            grad[row, column] = to_dtype_of(grad, by_raw)


@compiled
def leaky_relu_backward(output: Array, slope: float, grad: Array) -> None:
    """Turn `grad`, the gradients by a LeakyReLU's `output` (B, D), into those by its input in place."""
    kind = type(to_float(grad[0, 0]))
    one, leak = kind(1), kind(slope)
    for row in range(grad.shape[0]):
        for column in range(grad.shape[1]):
            by_input = to_float(grad[row, column]) * (one if to_float(output[row, column]) > 0 else leak)
            grad[row, column] = to_dtype_of(grad, by_input)


@compiled
def scale_rows(grad: Array, factors: Array, out: Array, total: Array) -> None:
    """Write each row of grad (B, D) times its factor (B, 1) to out (B, D), and the sum of the rows to total (D,)."""
    total[:] = total.dtype.type(0)
    for row in range(grad.shape[0]):
        factor = factors[row, 0]
        for column in range(grad.shape[1]):
            scaled = to_float(grad[row, column]) * factor
            out[row, column] = to_dtype_of(out, scaled)
            total[column] += scaled


@compiled
def tanh_backward(grad: Array, factors: Array, output: Array, out: Array) -> None:
    """Write the loss's gradients (B, D) by a tanh's input to out.

    `grad` (B, D) is each logit's gradient by the tanh's `output` (B, D), `factors` (B, 1) the loss's by each logit.
    """
    one = factors.dtype.type(1)
    for row in range(grad.shape[0]):
        factor = factors[row, 0]
        for column in range(grad.shape[1]):
            pixel = to_float(output[row, column])
            out[row, column] = to_dtype_of(out, to_float(grad[row, column]) * factor * (one - pixel * pixel))


@compiled
def add_bias(raw: Array, bias: Array, out: Array) -> None:
    """Write raw (B, D) + bias (D,) to out (B, D)."""
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            out[row, column] = to_dtype_of(out, to_float(raw[row, column]) + bias[column])


@compiled
def add_bias_leaky_relu(bias: Array, slope: float, out: Array) -> None:
    """Add bias (D,) to out (B, D), then apply LeakyReLU, in place. The slope is at most 1."""
    leak = bias.dtype.type(slope)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            raw = to_float(out[row, column]) + bias[column]
            out[row, column] = to_dtype_of(out, max(raw, raw * leak))


@compiled
def sum_rows(grad: Array, total: Array) -> None:
    """Write the sum of the rows of grad (B, D) to total (D,)."""
    total[:] = total.dtype.type(0)
    for row in range(grad.shape[0]):
        for column in range(grad.shape[1]):
            total[column] += to_float(grad[row, column])


@compiled
def head(hidden: Array, weight: Array, bias: Array, logits: Array) -> None:
    """Write the logits (B, 1) of hidden (B, D), given weight (1, D) and bias (1,)."""
    for row in range(hidden.shape[0]):
        total = bias[0]
        for column in range(hidden.shape[1]):
            total += to_float(hidden[row, column]) * weight[0, column]
        logits[row, 0] = total


@compiled
def head_backward(hidden: Array, weight: Array, slope: float, grad: Array) -> None:
    """Write each logit's gradients (B, D) by the input of the LeakyReLU whose output is hidden (B, D) to grad."""
    one, leak = weight.dtype.type(1), weight.dtype.type(slope)
    for row in range(hidden.shape[0]):
        for column in range(hidden.shape[1]):
            by_input = weight[0, column] * (one if to_float(hidden[row, column]) > 0 else leak)
            grad[row, column] = to_dtype_of(grad, by_input)


@compiled
def head_grads(hidden: Array, grad_logits: Array, weight_grad: Array, bias_grad: Array) -> None:
    """Write the loss's gradients by weight (1, D) and bias (1,), given those by the logits, grad_logits (B, 1)."""
    weight_grad[:] = weight_grad.dtype.type(0)
    bias_grad[:] = bias_grad.dtype.type(0)
    for row in range(hidden.shape[0]):
        grad_logit = grad_logits[row, 0]
        bias_grad[0] += grad_logit
        for column in range(hidden.shape[1]):
            weight_grad[0, column] += grad_logit * to_float(hidden[row, column])


@compiled_exact
def rectified_sigmoid_losses(logits: Array, g_grad_logits: Array, d_grad_logits: Array, losses: Array) -> None:
    """Write g_loss and d_loss by BCELoss of sigmoid(relu(logits)), and their gradients by the logits.

    The first half of the logits (2B,) is the fakes'. BCELoss divides by the sigmoid's derivative, or by 1e-12 where
    that is less: the gradient is 0 where the sigmoid is 1.
    """
    batch, kind = g_grad_logits.shape[0], logits.dtype.type
    g_loss, d_loss = 0.0, 0.0
    for row in range(2 * batch):
        logit = max(logits[row], kind(0))
        p = kind(1) / (kind(1) + kind(exp(-logit)))
        log_real, log_fake = max(kind(log(p)), kind(MIN_LOG)), max(kind(log1p(-p)), kind(MIN_LOG))
        sigmoid_grad = p * (kind(1) - p)
        by_logit = sigmoid_grad / max(sigmoid_grad, kind(MIN_SIGMOID_GRAD)) if logits[row] > 0 else kind(0)
        if row < batch:
            g_loss -= log_real
            d_loss -= log_fake / 2
            g_grad_logits[row, 0] = (p - kind(1)) * by_logit / kind(batch)
            d_grad_logits[row, 0] = p * by_logit / kind(2 * batch)
        else:
            d_loss -= log_real / 2
            d_grad_logits[row, 0] = (p - kind(1)) * by_logit / kind(2 * batch)
    losses[0], losses[1] = g_loss / batch, d_loss / batch


@compiled_exact
def logit_losses(logits: Array, g_grad_logits: Array, d_grad_logits: Array, losses: Array) -> None:
    """Write g_loss and d_loss by the binary cross-entropy of logits, and their gradients by the logits.

    The first half of the logits (2B,) is the fakes'.
    """
    batch, kind = g_grad_logits.shape[0], logits.dtype.type
    g_loss, d_loss = 0.0, 0.0
    for row in range(2 * batch):
        logit = logits[row]
        p = kind(1) / (kind(1) + kind(exp(-logit)))
        # The loss of an image with label 0. With label 1 it is this less the logit.
        loss_fake = max(logit, kind(0)) + kind(log1p(exp(-abs(logit))))
        if row < batch:
            g_loss += loss_fake - logit
            d_loss += loss_fake / 2
            g_grad_logits[row, 0] = (p - kind(1)) / kind(batch)
            d_grad_logits[row, 0] = p / kind(2 * batch)
        else:
            d_loss += (loss_fake - logit) / 2
            d_grad_logits[row, 0] = (p - kind(1)) / kind(2 * batch)
    losses[0], losses[1] = g_loss / batch, d_loss / batch


@compiled_exact
def zero_small(limit: float, numbers: Array) -> None:
    """Set the numbers (N,) whose size is below `limit` to 0. NaN stays NaN."""
    for index in range(numbers.size):
        numbers[index] = 0 if abs(numbers[index]) < limit else numbers[index]


@compiled
def adam(
    step: float, learning_rate: float, beta1: float, beta2: float, eps: float, ema_weight: float,
    grads: Array, parameters: Array, exp_avg: Array, exp_avg_sq: Array, average: Array | None, copy: Array | None,
) -> None:  # fmt: skip
    """Take Adam's update number `step` of parameters (N,), then update their average and write their bfloat16 copy."""
    kind = parameters.dtype.type
    one, keep, keep_square, share = kind(1), kind(beta1), kind(beta2), kind(ema_weight)
    root = np.sqrt(1 - beta2**step)
    step_size, least = kind(learning_rate * root / (1 - beta1**step)), kind(eps * root)
    for index in range(parameters.size):
        grad = to_float(grads[index])
        mean = exp_avg[index] + (grad - exp_avg[index]) * (one - keep)
        square = exp_avg_sq[index] * keep_square + grad * grad * (one - keep_square)
        updated = parameters[index] - step_size * mean / (np.sqrt(square) + least)
        exp_avg[index], exp_avg_sq[index], parameters[index] = mean, square, updated
        if average is not None:
            average[index] += share * (updated - average[index])
        if copy is not None:
            copy[index] = to_dtype_of(copy, updated)
