"""Which code is a recipe? The SHA-256 of its whole package, and the distributions that have it.

Nothing is imported for it.
"""

import hashlib
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from gan.errors import RecipeError
from gan.recipes.custom.naming import installed
from gan.recipes.custom.search_path import leave_out_working_dir


class Fingerprint(NamedTuple):
    """What tells whether two machines, or two days, have the same recipe."""

    sha256: str
    distributions: str  # with their versions; empty for a module that only PYTHONPATH names


def fingerprint(address: str) -> Fingerprint:
    """Return the fingerprint of the package that an address names. Raises RecipeError where it has no files."""
    return _of_package(address.partition(":")[0].partition(".")[0])


def package_files(address: str) -> set[str]:
    """Return the paths of the .py files that the fingerprint of an address covers."""
    return {str(path) for _, path in _files(address.partition(":")[0].partition(".")[0])}


@cache  # a process imports a package once, so it has one fingerprint
def _of_package(name: str) -> Fingerprint:
    digest = hashlib.sha256()
    for relative, path in _files(name):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RecipeError(f"{path} cannot be read ({error.strerror}). Check the package {name}.") from error
        digest.update(f"{relative}\n{len(content)}\n".encode())
        digest.update(content)
    return Fingerprint(digest.hexdigest(), _distributions(name))


def _files(name: str) -> list[tuple[str, Path]]:
    """List the .py files of a top-level package or module, by their sorted names in it."""
    leave_out_working_dir()
    spec = _spec(name)
    if spec.submodule_search_locations is None:
        return [(f"{name}.py", Path(str(spec.origin)))]
    folders = map(Path, spec.submodule_search_locations)
    found = [(path.relative_to(folder).as_posix(), path) for folder in folders for path in folder.rglob("*.py")]
    if not found:
        raise RecipeError(f"package {name} has no .py file that can be hashed. Install it as files.")
    return sorted(found)


def _spec(name: str) -> ModuleSpec:
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # ValueError: of a module that was put together by hand
        spec = None
    if spec is None:
        raise RecipeError(
            f"there is no module {name}. Install its package, or put the path of its folder into PYTHONPATH; nothing "
            "is imported from the working directory."
        )
    is_a_file = spec.origin is not None and Path(spec.origin).suffix == ".py" and Path(spec.origin).is_file()
    if spec.submodule_search_locations is None and not is_a_file:
        raise RecipeError(f"module {name} is no .py file, so it cannot be hashed. Install it as files.")
    return spec


def _distributions(name: str) -> str:
    """Return the distributions that have a package, with their versions.

    One that is installed in place may list no files. Its entry points name the package.
    """
    names = set(packages_distributions().get(name, []))
    names |= {each.dist.name for each in installed() if each.dist and each.module.split(".")[0] == name}
    return ", ".join(f"{each} {version(each)}" for each in sorted(names))
