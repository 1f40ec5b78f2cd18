"""How fast is the tutorial's step in JAX? `jit` compiles a scan of many steps; the images are on the device.

The step is that of published_loop.py, with one pass of D over the fakes for both losses. It does not read the losses.
"""

import os
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from math import gcd
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave the memory of a GPU to the other cases

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.published_loop import BATCH_NORM_EPS, BATCH_SIZE, LATENT_DIM, LEARNING_RATE
from benchmarks.timing import Precision, Setting, TimeSteps
from gan.data.dataset import load_dataset

SCAN_STEPS = 50
SLOPE, MOMENTUM = 0.2, 0.1  # of LeakyReLU and of batch norm
G_WIDTHS, NORMED = (LATENT_DIM, 128, 256, 512, 1024, 784), (1, 2, 3)  # layers of G with a norm
D_WIDTHS = (784, 512, 256, 128, 1)
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

Tree = Any  # arrays, or lists and dicts of them


def prepare(setting: Setting, precision: Precision) -> TimeSteps:
    """Prepare whole scans. XLA reads the number of its threads from NPROC when it first meets its device."""
    os.environ["NPROC"] = str(setting.num_threads)
    device = jax.devices("gpu" if setting.device == "cuda" else "cpu")[0]
    data = load_dataset(setting.data_dir)
    with jax.default_device(device):
        images = jnp.asarray(data.train_images.reshape(len(data.train_images), -1))  # (N, 784) uint8
        state = begin(jax.random.key(0))
    scan = jax.jit(partial(take_steps, dtype=jnp.dtype(precision)), donate_argnums=0)
    batches, size = batch_indices(len(images)), gcd(setting.warm_up_steps, SCAN_STEPS)  # windows are whole scans

    def time_steps(num_steps: int) -> float:
        nonlocal state
        began = time.perf_counter()
        for _ in range(num_steps // size):
            indices = np.stack([next(batches) for _ in range(size)])
            state, _losses = scan(state, images, indices)
        jax.block_until_ready(state)
        return time.perf_counter() - began

    return time_steps


def batch_indices(num_images: int) -> Iterator[np.ndarray]:
    """Yield the indices (B,) of batches without end, each epoch in a new order."""
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(num_images)[: num_images // BATCH_SIZE * BATCH_SIZE]
        yield from order.reshape(-1, BATCH_SIZE)


def begin(key: jax.Array) -> Tree:
    """Return the weights, running statistics, moments and random key of both networks."""
    g_key, d_key, key = jax.random.split(key, 3)
    g, d = init_layers(g_key, G_WIDTHS), init_layers(d_key, D_WIDTHS)
    for index in NORMED:
        g[index] |= {"scale": jnp.ones(G_WIDTHS[index + 1]), "shift": jnp.zeros(G_WIDTHS[index + 1])}
    stats = [(jnp.zeros(G_WIDTHS[index + 1]), jnp.ones(G_WIDTHS[index + 1])) for index in NORMED]
    zeros = partial(jax.tree.map, jnp.zeros_like)
    adam = {"step": jnp.zeros(()), "g": (zeros(g), zeros(g)), "d": (zeros(d), zeros(d))}
    return {"g": g, "d": d, "stats": stats, "adam": adam, "key": key}


def init_layers(key: jax.Array, widths: tuple[int, ...]) -> list[dict[str, jax.Array]]:
    """Return linear layers with PyTorch's initial distribution."""
    layers = []
    for fan_in, width in pairwise(widths):
        key, w_key, b_key = jax.random.split(key, 3)
        uniform = partial(jax.random.uniform, minval=-(fan_in**-0.5), maxval=fan_in**-0.5)
        layers.append({"w": uniform(w_key, (fan_in, width)), "b": uniform(b_key, (width,))})
    return layers


def take_steps(state: Tree, images: jax.Array, indices: jax.Array, dtype: Any) -> tuple[Tree, tuple[Tree, Tree]]:
    """Take a step for each row of indices (S, B). Return the state and the losses (S,) of G and of D."""

    def step(state: Tree, chosen: jax.Array) -> tuple[Tree, tuple[jax.Array, jax.Array]]:
        key, z_key = jax.random.split(state["key"])
        real = images[chosen].astype(jnp.float32) / 127.5 - 1  # (B, 784)
        z = jax.random.normal(z_key, (len(chosen), LATENT_DIM))
        state, losses = train_step(state | {"key": key}, real, z, dtype)
        return state, losses

    state, losses = jax.lax.scan(step, state, indices)
    return state, losses


def train_step(state: Tree, real: jax.Array, z: jax.Array, dtype: Any) -> tuple[Tree, tuple[jax.Array, jax.Array]]:
    """Update both networks by a batch (B, 784) in [-1, 1] and latents (B, L). Return the losses of G and of D."""
    adam = state["adam"] | {"step": state["adam"]["step"] + 1}
    fake, back_to_g, stats = jax.vjp(partial(generate, state["stats"], z, dtype), state["g"], has_aux=True)
    fake_output, back_from_fake = jax.vjp(partial(discriminate, dtype), state["d"], fake)
    real_output, back_from_real = jax.vjp(partial(discriminate, dtype), state["d"], real)
    g_loss, g_grad = jax.value_and_grad(partial(loss, target=1))(fake_output)
    d_fake_loss, d_fake_grad = jax.value_and_grad(partial(loss, target=0))(fake_output)
    d_real_loss, d_real_grad = jax.value_and_grad(partial(loss, target=1))(real_output)
    (g_grads,) = back_to_g(back_from_fake(g_grad)[1])
    d_grads = jax.tree.map(jnp.add, back_from_fake(0.5 * d_fake_grad)[0], back_from_real(0.5 * d_real_grad)[0])
    g, adam["g"] = update(state["g"], g_grads, adam["g"], adam["step"])
    d, adam["d"] = update(state["d"], d_grads, adam["d"], adam["step"])
    losses = g_loss, 0.5 * (d_real_loss + d_fake_loss)
    return state | {"g": g, "d": d, "stats": stats, "adam": adam}, losses


def generate(stats: Tree, z: jax.Array, dtype: Any, layers: Tree) -> tuple[jax.Array, Tree]:
    """Return fakes (B, 784) in [-1, 1], and the new running statistics."""
    x, new_stats = z, list[Tree]()
    for index, layer in enumerate(layers[:-1]):
        x = linear(layer, x, dtype)
        if index in NORMED:
            x, found = batch_norm(layer, x.astype(jnp.float32), stats[len(new_stats)])
            new_stats.append(found)
        x = jax.nn.leaky_relu(x.astype(dtype), SLOPE)
    return jnp.tanh(linear(layers[-1], x, dtype)).astype(jnp.float32), new_stats


def discriminate(dtype: Any, layers: Tree, images: jax.Array) -> jax.Array:
    """Return D's outputs (B,) in [0.5, 1)."""
    x = images
    for layer in layers:
        x = jax.nn.relu(linear(layer, x, dtype))
    return jax.nn.sigmoid(x[:, 0].astype(jnp.float32))


def linear(layer: Tree, x: jax.Array, dtype: Any) -> jax.Array:
    """Return x @ w + b in the precision of the case."""
    return x.astype(dtype) @ layer["w"].astype(dtype) + layer["b"].astype(dtype)


def batch_norm(layer: Tree, x: jax.Array, stats: Tree) -> tuple[jax.Array, Tree]:
    """Normalise over the batch. Return the running mean and variance, too."""
    mean, var = x.mean(0), x.var(0)
    normed = (x - mean) * jax.lax.rsqrt(var + BATCH_NORM_EPS) * layer["scale"] + layer["shift"]
    unbiased = var * len(x) / (len(x) - 1)
    return normed, tuple(old + MOMENTUM * (new - old) for old, new in zip(stats, (mean, unbiased), strict=True))


def loss(output: jax.Array, target: int) -> jax.Array:
    """Return BCELoss of outputs (B,), with its logarithms of at least -100."""
    return -jnp.maximum(jnp.log(output if target else 1 - output), -100).mean()


def update(params: Tree, grads: Tree, moments: Tree, step: jax.Array) -> tuple[Tree, Tree]:
    """Return the parameters and moments after Adam's update."""
    means = jax.tree.map(lambda m, g: m + (1 - BETA1) * (g - m), moments[0], grads)
    squares = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, moments[1], grads)
    rate, root = LEARNING_RATE / (1 - BETA1**step), jnp.sqrt(1 - BETA2**step)
    params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + EPS), params, means, squares)
    return params, (means, squares)
