"""What does a step depend on that no checkpoint has: random numbers, the time, or state of its own?

Functions of Python are replaced while a step runs. The state of a global random number generator is compared before and
after. datetime and random numbers that an extension draws by itself are not seen.
"""

import hashlib
import os
import pickle
import random
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gan.training.check.outcome import Source

CLOCKS = [f"{name}{unit}" for name in ("time", "perf_counter", "monotonic", "process_time") for unit in ("", "_ns")]
OF_TORCH = {"_parameters", "_buffers", "_modules", "training"}  # what an nn.Module has of its own


class Traps:
    """Find the sources of differences while the steps of a training run."""

    def __init__(self, files: set[str], package: str) -> None:
        """Blame lines of these files alone: a library may well look at the time."""
        self.files, self.package = files, package
        self.found: dict[tuple[str, str], Source] = {}

    @property
    def sources(self) -> list[Source]:
        """List what was found, each once."""
        return list(self.found.values())

    @contextmanager
    def set(self, networks: Mapping[str, nn.Module]) -> Iterator[None]:
        """Watch for the length of a step of these networks."""
        before, outside = _global_states(), self._outside(networks)
        with ExitStack() as stack:
            for owner, name, kind in _functions():
                stack.enter_context(self._replaced(owner, name, kind))
            stack.enter_context(_Draws(self))
            yield
        for kind, state in _global_states().items():
            is_known = kind == "torch" and any(seen == kind for seen, _ in self.found)  # with its line
            if state != before[kind] and not is_known:
                self.add(kind, "")
        after = self._outside(networks)
        for name in sorted(outside.keys() | after.keys()):
            if outside.get(name) != after.get(name):
                self.add("outside", name)

    def add(self, kind: str, where: str) -> None:
        """Add a source."""
        self.found[kind, where] = Source.model_validate({"kind": kind, "where": where})

    def line(self) -> str | None:
        """Return the line of the recipe's code that is running; None where none is."""
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename in self.files:
                return f"{frame.f_code.co_filename}, line {frame.f_lineno}, in {frame.f_code.co_name}"
            frame = frame.f_back  # type: ignore[assignment]
        return None

    def line_of(self, error: BaseException) -> str:
        """Return the last line of the recipe's code that an error has passed."""
        lines = [
            entry for each in (error, error.__cause__) if each for entry in traceback.extract_tb(each.__traceback__)
        ]
        ours = [
            f"{entry.filename}, line {entry.lineno}, in {entry.name}" for entry in lines if entry.filename in self.files
        ]
        return ours[-1] if ours else "outside of the recipe"

    @contextmanager
    def _replaced(self, owner: Any, name: str, kind: str) -> Iterator[None]:
        original = getattr(owner, name)

        def replacement(*args: Any, **kwargs: Any) -> Any:
            is_seeded = kind == "python" and len(args) > 1 and args[1] is not None
            if not is_seeded and (line := self.line()):
                self.add(kind, line)
            return original(*args, **kwargs)

        setattr(owner, name, replacement)
        try:
            yield
        finally:
            setattr(owner, name, original)

    def _outside(self, networks: Mapping[str, nn.Module]) -> dict[str, str]:
        """Return a hash of each value that the recipe has besides parameters and persistent buffers."""
        values: dict[str, Any] = {}
        for prefix, network in networks.items():
            for path, module in network.named_modules():
                names = ".".join(filter(None, (prefix, path)))
                values |= {f"{names}.{name}": value for name, value in _own_values(module).items()}
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == self.package:
                values |= {f"{name}.{key}": value for key, value in _global_values(module).items()}
        hashes = {name: _hash(value) for name, value in values.items()}
        return {name: value for name, value in hashes.items() if value is not None}


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Find operations that draw from torch's global random numbers, with their lines."""

    def __init__(self, traps: Traps) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.traps = traps

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and note it where it draws without a generator of its own."""
        given = kwargs or {}
        draws = torch.Tag.nondeterministic_seeded in func.tags
        if draws and not any(isinstance(each, torch.Generator) for each in (*args, *given.values())):
            self.traps.add("torch", self.traps.line() or "")
        return func(*args, **given)


def _functions() -> list[tuple[Any, str, str]]:
    """List the functions that are replaced: where they are, and the kind of source."""
    found: list[tuple[Any, str, str]] = [(time, name, "time") for name in CLOCKS]
    found += [(os, "urandom", "urandom"), (os, "getrandom", "urandom"), (random, "_urandom", "urandom")]
    return [*found, (random.Random, "seed", "python")]


def _global_states() -> dict[str, str]:
    """Return the state of each global random number generator."""
    return {
        "torch": _digest(torch.random.get_rng_state().numpy().tobytes()),
        "numpy": repr(np.random.get_state(legacy=False)),
        "python": repr(random.getstate()),
    }


def _own_values(module: nn.Module) -> dict[str, Any]:
    values = {name: value for name, value in vars(module).items() if name not in OF_TORCH}
    return values | {name: module._buffers[name] for name in module._non_persistent_buffers_set}


def _global_values(module: ModuleType) -> dict[str, Any]:
    kinds = (ModuleType, FunctionType, type)
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("__") and not isinstance(value, kinds) and not callable(value)
    }


def _hash(value: Any) -> str | None:
    """Return a hash of a value; None where it cannot be told whether it has changed."""
    if isinstance(value, Tensor):
        return _digest(value.detach().cpu().clone().reshape(-1).view(torch.uint8).numpy().tobytes())
    if isinstance(value, torch.Generator):
        return _digest(value.get_state().numpy().tobytes())
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    try:
        return _digest(pickle.dumps(value))
    except Exception:  # noqa: BLE001 - any: somebody else's object
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
