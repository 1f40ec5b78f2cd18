"""Is a recipe outside of gan/ trained as those in it are: with exact resume, buffers, EMA, R1 and decay?"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from gan.config import TrainConfig
from gan.data.batches import Batches
from gan.engine.cuda_graphs import Capture, GraphSteps
from gan.engine.custom_networks import CustomEngine
from gan.engine.factory import engine_for
from gan.engine.state import TrainState
from gan.errors import ConfigMismatchError, RecipeError
from gan.recipes.custom import fingerprint, importing
from gan.recipes.custom.importing import permit
from gan.recipes.draw import draw
from gan.report.page import render
from gan.runs import checkpoint
from gan.runs.run_dir import RunDir
from gan.runs.sampling import load_sampler
from gan.training import loop
from gan.training.resolving import resolve_here
from tests.support.configs import run_config
from tests.support.custom_recipe import ADDRESS, EXAMPLE, EXAMPLE_FOLDER, IN_D, IN_G, forget, write_package
from tests.support.custom_recipe import fresh as fresh
from tests.support.killing import differing
from tests.support.training import DATA, train

pytestmark = pytest.mark.usefixtures("fresh")
D_HINGE = "lambda fake, real: (1 + fake).relu().mean() + (1 - real).relu().mean()"
HINGE = ('loss="bce"', f"loss=CustomLoss(lambda fake: -fake.mean(), {D_HINGE})")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """Install the small recipe, and return a config of it."""
    monkeypatch.syspath_prepend(write_package(tmp_path / "place"))
    permit(ADDRESS)
    return TrainConfig(recipe=ADDRESS, num_steps=40, snapshot_steps=10, num_threads=1, lr_decay_start=0.5)


def change(tmp_path: Path, *changes: tuple[str, str]) -> None:
    """Change the code of the package, as if another process had installed it."""
    write_package(tmp_path / "place", *changes)
    forget()


def test_an_interrupted_run_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path, asked: TrainConfig) -> None:
    train(tmp_path / "whole", asked)
    train(tmp_path / "parts", asked, stop_at=7)
    train(tmp_path / "parts", asked, stop_at=23, resume=True)
    run = train(tmp_path / "parts", asked, resume=True)
    assert differing(tmp_path / "parts", tmp_path / "whole") == []
    buffers = dict(run.state.discriminator.named_buffers())
    assert buffers["network.layers.2.num_batches_tracked"] == 80  # two batches a step, and none by a measurement
    assert not torch.equal(run.state.sampler.network.layers[0].weight, run.state.generator.network.layers[0].weight)


def test_its_run_needs_no_import_to_be_read(tmp_path: Path, asked: TrainConfig) -> None:
    train(tmp_path / "run", asked)
    change(tmp_path, ("class G", "raise RuntimeError\nclass G"))
    importing._permitted.clear()
    run_dir = RunDir(tmp_path / "run")
    assert run_dir.read_config().recipe == ADDRESS and ADDRESS in run_dir.read_name()
    render(run_dir)
    assert "4 grids, drawn every 10 steps: 25 samples each time." in run_dir.report_path.read_text()
    with pytest.raises(RecipeError, match="nobody has named it here"):
        load_sampler(tmp_path / "run")


def test_samples_are_drawn_by_class(tmp_path: Path, asked: TrainConfig) -> None:
    train(tmp_path / "run", asked.model_copy(update={"conditional": True, "num_steps": 10}))
    network, config, _ = load_sampler(tmp_path / "run")
    one, two = (draw(network, config.latent_dim, 5, seed=0, digit=digit) for digit in (3, 4))
    assert one.shape == (5, 1, 28, 28) and not torch.equal(one, two)


def test_a_resume_with_other_code_is_refused_with_both_hashes(tmp_path: Path, asked: TrainConfig) -> None:
    train(tmp_path / "run", asked, stop_at=10)
    ours = RunDir(tmp_path / "run").read_config().recipe_sha256
    change(tmp_path, ("nn.SiLU()", "nn.GELU()"))
    with pytest.raises(ConfigMismatchError, match=f"the run has {ours}") as raised:
        train(tmp_path / "run", asked, resume=True)
    assert str(fingerprint.fingerprint(ADDRESS).sha256) in str(raised.value)
    change(tmp_path)
    assert train(tmp_path / "run", asked, resume=True).finished


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ((IN_G, "raise ValueError('too\\nbad')"), "its generator failed .ValueError: too.. Add --debug"),
        ((IN_G, "images = images[:-1]"), r"its generator returned shape \(63, 1, 28, 28\), expected \(64, 1, 28, 28\)"),
        ((IN_D, "logits = logits[:, None]"), r"its discriminator returned shape \(64, 1\), expected \(64,\)"),
        ((IN_D, "logits = None"), "its discriminator returned NoneType, expected a tensor"),
        ((IN_D, "logits = logits.detach()"), "its backward pass failed .RuntimeError"),
        (("class D(nn.Module)", "class D"), "its discriminator is D, expected a torch.nn.Module"),
        (("CustomNetworks(G, D)", "CustomNetworks(G, print)"), "its discriminator is NoneType, expected a torch.nn.M"),
        (
            ("CustomNetworks(G, D)", "CustomNetworks(G, lambda s: nn.Flatten())"),
            "its discriminator cannot be trained: it",
        ),
        (("CustomNetworks(G, D)", "CustomNetworks(G, lambda s: nn.LazyLinear(1))"), "weight has no shape yet"),
        (
            ("nn.Linear(24, 1)", "nn.Linear(24, 1).requires_grad_(False)"),
            "layers.4.weight is not trained: make it a buffer; layers.4.bias is not",
        ),
        (
            ("self.layers = nn.Sequential(", "self.a = self.b = nn.Linear(2, 2); self.layers = nn.Sequential("),
            "are one p",
        ),
        (('loss="bce"', "loss=CustomLoss(lambda fake: fake, max)"), "its generator's loss returned shape .64,., exp"),
        (('loss="bce"', "loss=CustomLoss(lambda fake: fake.mean(), max)"), "its discriminator's loss failed .RuntimeE"),
    ],
)
def test_an_error_of_its_code_is_one_sentence(
    tmp_path: Path, asked: TrainConfig, line: tuple[str, str], message: str
) -> None:
    change(tmp_path, line)
    with pytest.raises(RecipeError, match=f"^recipe {ADDRESS}: .*{message}") as raised:
        train(tmp_path / "run", asked)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("loss", [None, HINGE])
@pytest.mark.parametrize("r1_gamma", [0.0, 2.0])
def test_its_gradients_are_those_of_its_losses(
    tmp_path: Path, asked: TrainConfig, loss: tuple[str, str] | None, r1_gamma: float
) -> None:
    """Also where an image reaches the logits of others, by the batch norm of D, and where SiLU gives biases R1."""
    change(tmp_path, *filter(None, [loss]))
    config = run_config(recipe=ADDRESS, num_steps=40, r1_gamma=r1_gamma, augment_translate=0)
    state, plain = TrainState(config, torch.float64), TrainState(config, torch.float64)
    batches = Batches(DATA.train_images, DATA.train_labels, 64, config.seed, dtype=torch.float64)
    engine = engine_for(state, config)
    assert isinstance(engine, CustomEngine)
    real, losses = batches(1), torch.empty(2, dtype=torch.float64)
    with engine.running():
        fake = engine.step(real, losses)

    z = torch.randn(64, config.latent_dim, generator=plain.rng, dtype=torch.float64)
    ours = plain.generator(z)
    assert torch.equal(ours.detach(), fake)
    pixels = real.images.requires_grad_()
    fake_logits = plain.discriminator(ours, plain.generator.labels(z))
    real_logits = plain.discriminator(pixels, real.labels)
    if loss:
        g_loss, d_loss = -fake_logits.mean(), F.relu(1 + fake_logits).mean() + F.relu(1 - real_logits).mean()
    else:
        g_loss = F.softplus(-fake_logits).mean()
        d_loss = 0.5 * (F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean())
    assert torch.allclose(losses, torch.stack([g_loss, d_loss]).detach())
    g_grads = torch.autograd.grad(g_loss, list(plain.generator.parameters()), retain_graph=True)
    if r1_gamma:
        (slope,) = torch.autograd.grad(real_logits.sum(), pixels, create_graph=True)
        d_loss = d_loss + r1_gamma / 2 * 10 * slope.square().sum() / 64
    d_parameters = list(plain.discriminator.parameters())
    d_grads = torch.autograd.grad(d_loss, d_parameters, allow_unused=True, materialize_grads=True)
    for found, expected in zip([*engine.g_adam.grads, *engine.d_adam.grads], [*g_grads, *d_grads], strict=True):
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_built_in_recipe_is_the_same_by_its_address(tmp_path: Path) -> None:
    permit("gan.recipes.dcgan:DCGAN")
    runs = []
    for recipe in ("dcgan", "gan.recipes.dcgan:DCGAN"):
        asked = TrainConfig(recipe=recipe, num_steps=4, snapshot_steps=4, num_threads=1)
        runs.append(train(tmp_path / recipe.replace(":", "."), asked).state)
    tensors = [run.tensors() for run in runs]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_a_config_of_a_built_in_recipe_has_no_new_key() -> None:
    assert {"recipe_sha256", "recipe_distributions"}.isdisjoint(resolve_here(TrainConfig())[0].model_dump())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_example_trains_in_both_precisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.syspath_prepend(EXAMPLE_FOLDER)
    permit(EXAMPLE)
    asked = TrainConfig(
        recipe=EXAMPLE, num_steps=4, snapshot_steps=2, batch_size=25, num_threads=1, precision=precision
    )
    train(tmp_path / "whole", asked)
    train(tmp_path / "parts", asked, stop_at=3)
    train(tmp_path / "parts", asked, resume=True)
    assert differing(tmp_path / "parts", tmp_path / "whole") == []
    found = checkpoint.load_newest(tmp_path / "whole")
    assert found and "discriminator.network.head.parametrizations.weight.0._u" in found.tensors


def refuse(_steps: object, _rng: object) -> Callable[[], None]:
    """Fail as a forward pass with .item() does while CUDA captures it: the recipe's error hides CUDA's."""
    raise RecipeError("its generator failed (RuntimeError: operation not permitted when stream is capturing)")


@pytest.mark.parametrize("capture", [lambda steps, _rng: steps, refuse])
def test_steps_in_cuda_graphs_give_the_same_bytes_also_where_none_can_be_made(
    tmp_path: Path,
    asked: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capture: Capture,
) -> None:
    """Without a GPU, a stand-in for CUDA's capture replays the steps themselves."""
    train(tmp_path / "single", asked)
    monkeypatch.setattr(loop, "steps_for", lambda *inputs: GraphSteps(*inputs, capture))
    train(tmp_path / "graphs", asked)
    assert differing(tmp_path / "graphs", tmp_path / "single") == []
    assert ("training continues without CUDA graphs: its generator failed" in caplog.text) is (capture is refuse)
