"""When is the code of a recipe imported, and what is said where it cannot be?"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gan.config import TrainConfig
from gan.errors import ConfigMismatchError, RecipeError
from gan.recipes.base import Recipe
from gan.recipes.custom.fingerprint import fingerprint
from gan.recipes.custom.importing import load, permit
from gan.recipes.custom.naming import address_of
from gan.recipes.custom.offered import offered
from gan.recipes.resolve import check, recipe_of, stored_config
from tests.support.configs import run_config
from tests.support.custom_recipe import ADDRESS, write_package
from tests.support.custom_recipe import fresh as fresh

pytestmark = pytest.mark.usefixtures("fresh")
Installed = Callable[..., Path]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Write the package with some changes, and put it on the path."""

    def install(*changes: tuple[str, str]) -> Path:
        folder = write_package(tmp_path / "place", *changes)
        monkeypatch.syspath_prepend(folder)
        return folder

    return install


def test_a_recipe_that_the_user_names_is_imported(installed: Installed) -> None:
    installed()
    permit(ADDRESS)
    recipe = load(ADDRESS)
    assert isinstance(recipe, Recipe) and recipe.summary == "a small one"
    config = run_config(recipe=ADDRESS)
    assert (config.num_steps, config.conditional, config.recipe_distributions) == (40, False, "")
    assert config.recipe_sha256 == fingerprint(ADDRESS).sha256


def test_a_config_alone_imports_nothing(installed: Installed) -> None:
    installed()
    permit(ADDRESS)
    fields = run_config(recipe=ADDRESS).model_dump()
    stored = stored_config({**fields, "recipe": "theirs.recipe:IT"})
    with pytest.raises(RecipeError, match="theirs.recipe:IT is code .* add --recipe theirs.recipe:IT"):
        recipe_of(stored)
    with pytest.raises(RecipeError, match="nobody has named it here"):
        check(TrainConfig(recipe="theirs.recipe:IT"))
    assert "theirs" not in sys.modules


def test_other_code_than_that_of_the_run_is_refused_before_it_is_imported(installed: Installed) -> None:
    folder = installed()
    ours = fingerprint(ADDRESS).sha256
    permit(ADDRESS)
    with pytest.raises(ConfigMismatchError, match=f"has SHA-256 {ours} .*, the run has {'0' * 64}. Install the ver"):
        load(ADDRESS, "0" * 64)
    assert "mine" not in sys.modules and folder.exists()
    assert load(ADDRESS, ours).name == "mine"


def test_a_run_without_a_hash_is_refused(installed: Installed) -> None:
    installed()
    permit(ADDRESS)
    without = run_config(recipe=ADDRESS).model_copy(update={"recipe_sha256": None})
    with pytest.raises(ConfigMismatchError, match="the run has none"):
        recipe_of(without)


def test_the_hash_is_that_of_all_python_files_by_name(installed: Installed) -> None:
    from gan.recipes.custom.fingerprint import _of_package as of_package

    def sha256() -> str:
        of_package.cache_clear()
        return fingerprint(ADDRESS).sha256

    folder = installed()
    seen = {sha256()}
    (folder / "mine" / "notes.txt").write_text("not code")
    assert sha256() in seen
    for name in ("deep/er.py", "other.py"):
        (folder / "mine" / name).parent.mkdir(exist_ok=True)
        (folder / "mine" / name).write_text("1")
        seen.add(sha256())
    (folder / "mine" / "other.py").rename(folder / "mine" / "another.py")
    assert len({*seen, sha256()}) == 4
    (folder / "single.py").write_text("MINE = 1")
    assert len(fingerprint("single:MINE").sha256) == 64


def test_nothing_is_imported_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path)
    permit(ADDRESS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), ".", *sys.path])
    monkeypatch.setenv("PYTHONPATH", ":.")
    with pytest.raises(RecipeError, match="no module mine. .*; nothing is imported from the working directory"):
        load(ADDRESS)
    assert str(tmp_path) not in sys.path and "" not in sys.path
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # but by its path it may be named
    sys.path.append(str(tmp_path))
    assert load(ADDRESS).name == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("import os", "import nowhere, os"), "cannot be imported .ModuleNotFoundError: No module named 'nowhere'"),
        (("import os, random, time", "raise SystemExit('bye')"), "cannot be imported .SystemExit: bye"),
        (("MINE = Recipe", "OTHER = Recipe"), "the module mine.recipe has no MINE"),
        (("MINE = Recipe(", "MINE = dict("), "expected a gan.recipes.base.Recipe, found dict"),
        (('engine="autograd"', 'engine="mlp"'), "engine is 'mlp', and these networks need 'autograd'"),
        (('loss="bce"', 'loss="hinge"'), "loss is 'hinge'"),
        (('loss="bce"', "loss=CustomLoss(1, 2)"), "generator of CustomLoss is no function; discriminator of CustomL"),
        (("num_steps=40", "num_steps=0"), "defaults: num_steps: Input should be greater than or equal to 1"),
        (("num_steps=40", "num_steps='many'"), "defaults: "),
        (("CustomNetworks(G, D)", "(G, D)"), "networks is .<class"),
        (("grid=", 'short_run={"speed": 1}, grid='), "short_run has speed, which is no default"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_sentence(
    installed: Installed, change: tuple[str, str], message: str
) -> None:
    installed(change)
    permit(ADDRESS)
    with pytest.raises(RecipeError, match=f"^recipe {ADDRESS}: .*{message}") as raised:
        load(ADDRESS)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["os:nothing", "sys:path", "no.such:thing", "theirs"])
def test_a_module_that_is_not_there_or_has_no_recipe_is_refused(name: str) -> None:
    with pytest.raises(RecipeError):
        address = address_of(name)
        permit(address)
        load(address)


@pytest.mark.parametrize("name", ["best", "../x:y", "a:b:c", "a b:c", "a:b\n", "ä:b", "a:", "a" * 201 + ":b"])
def test_a_config_names_a_built_in_recipe_or_an_address(name: str) -> None:
    with pytest.raises(ValueError, match="expected published, tuned, dcgan or PACKAGE.MODULE:NAME, got"):
        TrainConfig(recipe=name)


def test_an_installed_package_gives_its_recipe_a_short_name(installed: Installed) -> None:
    folder = installed()
    write_metadata(folder, "mine-dist", "small = mine.recipe:MINE\nbroken = mine.recipe\n")
    assert address_of("small") == ADDRESS
    assert fingerprint(ADDRESS).distributions == "mine-dist 2.5"
    with pytest.raises(RecipeError, match="its entry point is 'mine.recipe', expected PACKAGE.MODULE:NAME"):
        address_of("broken")
    assert [(each.name, each.address, each.distribution, bool(each.fault)) for each in offered()[3:]] == [
        ("broken", "mine.recipe", "mine-dist 2.5", True),
        ("small", ADDRESS, "mine-dist 2.5", False),
    ]
    write_metadata(folder, "other-dist", "small = theirs:MINE\n")
    with pytest.raises(RecipeError, match="several packages offer one: mine.recipe:MINE, theirs:MINE"):
        address_of("small")
    assert "mine" not in sys.modules


def write_metadata(folder: Path, name: str, entry_points: str) -> None:
    """Write what an installer writes beside a package."""
    info = folder / f"{name.replace('-', '_')}-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[gan_train.recipes]\n{entry_points}")


@pytest.mark.parametrize(
    ("change", "asked", "message"),
    [
        (("(G, D)", "(G, D, supports_conditional=False)"), {"conditional": True}, "is never class-conditional"),
        (("(G, D)", "(G, D, supports_unconditional=False)"), {}, "is always class-conditional"),
        (("(G, D)", "(G, D)"), {"dropout": 0.5}, "has no dropout"),
    ],
)
def test_what_it_does_not_support_is_refused(
    installed: Installed, change: tuple[str, str], asked: dict[str, object], message: str
) -> None:
    installed(change)
    permit(ADDRESS)
    with pytest.raises(RecipeError, match=message):
        check(TrainConfig(recipe=ADDRESS, **asked))
