"""How is what lies between a step's products computed on the CPU, without Python?

Compiled by Numba for the dtypes at hand when first called, and kept for the next process. None of these starts a
thread or holds Python's lock. B is the batch size; what a function writes it takes last. Numba has no bfloat16: what
lies in it, activations and their gradients, is given as its bits, uint16; sums are always of the parameters' dtype.
"""

from collections.abc import Callable
from math import exp, log, log1p
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from gan.compiled import Array, compiled, exactly


def wide(number: Any) -> Any:
    """Return a number of any dtype as one to calculate with."""


@overload(wide, inline="always", strict=False)
def _wide(number: types.Type) -> Callable[..., Any]:
    if number == types.uint16:
        return lambda number: np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)
    return lambda number: number


def narrow(number: Any, out: Array) -> Any:
    """Return a number as one of `out`, in bfloat16 the nearest, of two the even one; a NaN of arithmetic stays."""


@overload(narrow, inline="always", strict=False)
def _narrow(number: types.Type, out: types.Array) -> Callable[..., Any]:
    def nearest(number: Any, out: Array) -> Any:
        bits = np.float32(number).view(np.uint32)
        odd = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
        return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + np.uint32(odd)) >> np.uint32(16))

    return nearest if out.dtype == types.uint16 else lambda number, out: number


LEAST_LOG = -100.0  # as BCELoss has it
LEAST_SLOPE = 1e-12


@compiled
def normalise(
    raw: Array, bias: Array, scale: Array, shift: Array, momentum: float, eps: float, slope: float,
    running_mean: Array, running_var: Array, out: Array, mean: Array, inv_std: Array,
) -> None:  # fmt: skip
    """Normalise raw + bias, (B, D) and (D,), by batch (Ioffe and Szegedy 2015) and rectify it with a slope.

    Update the running statistics. `mean` is that of raw alone: a norm takes out what is added before it.
    """
    kind = mean.dtype.type
    count, one, weight, least, leak = kind(raw.shape[0]), kind(1), kind(momentum), kind(eps), kind(slope)
    mean[:] = kind(0)
    inv_std[:] = kind(0)
    for row in range(raw.shape[0]):
        for column in range(raw.shape[1]):
            mean[column] += wide(raw[row, column])
    for column in range(raw.shape[1]):
        mean[column] /= count
    for row in range(raw.shape[0]):
        for column in range(raw.shape[1]):
            away = wide(raw[row, column]) - mean[column]
            inv_std[column] += away * away
    for column in range(raw.shape[1]):
        squares = inv_std[column]
        running_mean[column] += weight * (mean[column] + bias[column] - running_mean[column])
        running_var[column] += weight * (squares / (count - one) - running_var[column])
        inv_std[column] = one / np.sqrt(squares / count + least)
    for row in range(raw.shape[0]):
        for column in range(raw.shape[1]):
            normal = (wide(raw[row, column]) - mean[column]) * (inv_std[column] * scale[column]) + shift[column]
            out[row, column] = narrow(max(normal, normal * leak), out)


@compiled
def normalise_back(
    raw: Array, rectified: Array, scale: Array, mean: Array, inv_std: Array, slope: float,
    delta: Array, scale_grad: Array, shift_grad: Array,
) -> None:  # fmt: skip
    """Turn the gradients by `rectified` (B, D) into those by `raw`, in place, and write those by scale and shift."""
    kind = mean.dtype.type
    one, leak = kind(1), kind(slope)
    scale_grad[:] = kind(0)
    shift_grad[:] = kind(0)
    for row in range(raw.shape[0]):
        for column in range(raw.shape[1]):
            grad = wide(delta[row, column]) * (one if wide(rectified[row, column]) > 0 else leak)
            delta[row, column] = narrow(grad, delta)
            shift_grad[column] += grad
            scale_grad[column] += grad * (wide(raw[row, column]) - mean[column])
    share = one / kind(raw.shape[0])
    for column in range(raw.shape[1]):
        scale_grad[column] *= inv_std[column]
    for row in range(raw.shape[0]):
        for column in range(raw.shape[1]):
            normal = (wide(raw[row, column]) - mean[column]) * inv_std[column]
            common = share * (shift_grad[column] + normal * scale_grad[column])
            grad = (wide(delta[row, column]) - common) * (inv_std[column] * scale[column])
            delta[row, column] = narrow(grad, delta)


@compiled
def rectify_back(rectified: Array, slope: float, delta: Array) -> None:
    """Turn the gradients by leakily `rectified` (B, D) into those by what it was, in place."""
    kind = type(wide(delta[0, 0]))
    one, leak = kind(1), kind(slope)
    for row in range(delta.shape[0]):
        for column in range(delta.shape[1]):
            grad = wide(delta[row, column]) * (one if wide(rectified[row, column]) > 0 else leak)
            delta[row, column] = narrow(grad, delta)


@compiled
def weigh(delta: Array, slopes: Array, out: Array, total: Array) -> None:
    """Write each row of delta (B, D) times its slope (B, 1) into out (B, D), and their sum into total (D,)."""
    total[:] = total.dtype.type(0)
    for row in range(delta.shape[0]):
        slope = slopes[row, 0]
        for column in range(delta.shape[1]):
            weighted = wide(delta[row, column]) * slope
            out[row, column] = narrow(weighted, out)
            total[column] += weighted


@compiled
def weigh_tanh(delta: Array, slopes: Array, fake: Array, out: Array) -> None:
    """Write each row's gradient by what fake (B, D) is the tanh of, given its logit's by fake and the logit's slope."""
    one = slopes.dtype.type(1)
    for row in range(delta.shape[0]):
        slope = slopes[row, 0]
        for column in range(delta.shape[1]):
            pixel = wide(fake[row, column])
            out[row, column] = narrow(wide(delta[row, column]) * slope * (one - pixel * pixel), out)


@compiled
def add(raw: Array, bias: Array, out: Array) -> None:
    """Write each row of raw (B, D) plus a bias (D,) into out (B, D)."""
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            out[row, column] = narrow(wide(raw[row, column]) + bias[column], out)


@compiled
def rectify(bias: Array, slope: float, out: Array) -> None:
    """Add a bias (D,) to each row of out (B, D) and rectify it with a slope, of 1 at most."""
    leak = bias.dtype.type(slope)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            raw = wide(out[row, column]) + bias[column]
            out[row, column] = narrow(max(raw, raw * leak), out)


@compiled
def add_rows(rows: Array, total: Array) -> None:
    """Write the sum of rows (B, D) into total (D,)."""
    total[:] = total.dtype.type(0)
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            total[column] += wide(rows[row, column])


@compiled
def head(hidden: Array, weight: Array, bias: Array, logits: Array) -> None:
    """Write the logits (B, 1) of hidden (B, D) by weight (1, D) and bias (1,)."""
    for row in range(hidden.shape[0]):
        total = bias[0]
        for column in range(hidden.shape[1]):
            total += wide(hidden[row, column]) * weight[0, column]
        logits[row, 0] = total


@compiled
def head_back(hidden: Array, weight: Array, slope: float, delta: Array) -> None:
    """Write the gradients (B, D) of each logit by what hidden (B, D) is rectified from."""
    one, leak = weight.dtype.type(1), weight.dtype.type(slope)
    for row in range(hidden.shape[0]):
        for column in range(hidden.shape[1]):
            grad = weight[0, column] * (one if wide(hidden[row, column]) > 0 else leak)
            delta[row, column] = narrow(grad, delta)


@compiled
def head_grads(hidden: Array, slopes: Array, weight_grad: Array, bias_grad: Array) -> None:
    """Write the gradients by weight (1, D) and bias (1,), given the loss's slopes (B, 1) by the logits."""
    weight_grad[:] = weight_grad.dtype.type(0)
    bias_grad[:] = bias_grad.dtype.type(0)
    for row in range(hidden.shape[0]):
        slope = slopes[row, 0]
        bias_grad[0] += slope
        for column in range(hidden.shape[1]):
            weight_grad[0, column] += slope * wide(hidden[row, column])


@exactly
def judge_rectified(logits: Array, g_slopes: Array, d_slopes: Array, losses: Array) -> None:
    """Write g_loss and d_loss by BCELoss of sigmoid(relu(logits)), logits (2B,), the fakes' first, and their slopes.

    BCELoss divides by the sigmoid's own derivative, but by 1e-12 where that is less: at p = 1 all is 0.
    """
    batch, kind = g_slopes.shape[0], logits.dtype.type
    g_loss, d_loss = 0.0, 0.0
    for row in range(2 * batch):
        logit = max(logits[row], kind(0))
        p = kind(1) / (kind(1) + kind(exp(-logit)))
        real, fake = max(kind(log(p)), kind(LEAST_LOG)), max(kind(log1p(-p)), kind(LEAST_LOG))
        own = p * (kind(1) - p)
        by_logit = own / max(own, kind(LEAST_SLOPE)) if logits[row] > 0 else kind(0)
        if row < batch:
            g_loss -= real
            d_loss -= fake / 2
            g_slopes[row, 0] = (p - kind(1)) * by_logit / kind(batch)
            d_slopes[row, 0] = p * by_logit / kind(2 * batch)
        else:
            d_loss -= real / 2
            d_slopes[row, 0] = (p - kind(1)) * by_logit / kind(2 * batch)
    losses[0], losses[1] = g_loss / batch, d_loss / batch


@exactly
def judge(logits: Array, g_slopes: Array, d_slopes: Array, losses: Array) -> None:
    """Write g_loss and d_loss by the cross-entropy of logits (2B,), the fakes' first, and their slopes."""
    batch, kind = g_slopes.shape[0], logits.dtype.type
    g_loss, d_loss = 0.0, 0.0
    for row in range(2 * batch):
        logit = logits[row]
        p = kind(1) / (kind(1) + kind(exp(-logit)))
        as_fake = max(logit, kind(0)) + kind(log1p(exp(-abs(logit))))  # and as a real: less the logit
        if row < batch:
            g_loss += as_fake - logit
            d_loss += as_fake / 2
            g_slopes[row, 0] = (p - kind(1)) / kind(batch)
            d_slopes[row, 0] = p / kind(2 * batch)
        else:
            d_loss += (as_fake - logit) / 2
            d_slopes[row, 0] = (p - kind(1)) / kind(2 * batch)
    losses[0], losses[1] = g_loss / batch, d_loss / batch


@exactly
def flush(least: float, numbers: Array) -> None:
    """Set those of numbers (N,) to 0 that are less, however signed; NaN is not."""
    for index in range(numbers.size):
        numbers[index] = 0 if abs(numbers[index]) < least else numbers[index]


@compiled
def adam(
    step: float, learning_rate: float, beta1: float, beta2: float, eps: float, ema_weight: float,
    grads: Array, parameters: Array, means: Array, squares: Array, average: Array | None, narrowed: Array | None,
) -> None:  # fmt: skip
    """Take Adam's update number `step` (Kingma and Ba 2015) of parameters (N,), then their average and narrow copy."""
    kind = parameters.dtype.type
    one, keep, keep_square, share = kind(1), kind(beta1), kind(beta2), kind(ema_weight)
    root = np.sqrt(1 - beta2**step)
    pace, least = kind(learning_rate * root / (1 - beta1**step)), kind(eps * root)
    for index in range(parameters.size):
        grad = wide(grads[index])
        mean = means[index] + (grad - means[index]) * (one - keep)
        square = squares[index] * keep_square + grad * grad * (one - keep_square)
        moved = parameters[index] - pace * mean / (np.sqrt(square) + least)
        means[index], squares[index], parameters[index] = mean, square, moved
        if average is not None:
            average[index] += share * (moved - average[index])
        if narrowed is not None:
            narrowed[index] = narrow(moved, narrowed)
