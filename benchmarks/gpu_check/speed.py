"""How fast is a step on a GPU, beside what others would take for it?"""

from collections import defaultdict
from statistics import median
from typing import get_args

import torch

from benchmarks import compiled_loop
from benchmarks.cases import Case, list_cases, missing_peers
from benchmarks.gpu_check.settings import NotRunError, Record, Settings
from benchmarks.published_loop import write_torchvision_files
from benchmarks.rates import measure_rates
from benchmarks.timing import WINDOW, Precision, Setting
from gan.data.dataset import load_dataset
from gan.device import choose_num_threads

ROUNDS = 3
WINDOW_STEPS = 100  # of the slowest cases; process.py gives the others more
AUTOTUNE_STEPS = 2000


def time_all_cases(settings: Settings, record: Record) -> None:
    """Time the cases of `make bench` in turn. Record the medians after each window."""
    rates = defaultdict[str, list[float]](list)

    def tell(case: Case, rate: float) -> None:
        name = f"{case.name}, {case.precision}: median, steps/s"
        rates[name].append(rate)
        record(name, round(median(rates[name]), 1))

    for row in measure_rates(list_cases(settings.device), setting_for(settings), ROUNDS, tell):
        if row.group == "peer":
            record(f"{row.name}, {row.precision}: compiling, s", round(row.compile_seconds, 1))
    for name, missing in missing_peers().items():
        record(f"{name}: left out", missing)


def setting_for(settings: Settings) -> Setting:
    """Return the setting of the benchmark's cases, and write the files that torchvision reads."""
    torchvision_dir = settings.scratch / "torchvision"
    write_torchvision_files(load_dataset(settings.data_dir), torchvision_dir)
    warm_up_steps = settings.scaled(WINDOW_STEPS // WINDOW, least=1)
    return Setting(settings.device, choose_num_threads(), warm_up_steps, settings.data_dir, torchvision_dir)


def time_max_autotune(settings: Settings, record: Record) -> None:
    """Time torch.compile where it may try all of its kernels, in this process."""
    if missing := compiled_loop.missing():
        raise NotRunError(missing)
    setting = setting_for(settings)
    torch.set_num_threads(setting.num_threads)
    for precision in get_args(Precision):
        time_steps = compiled_loop.prepare(setting, precision, mode="max-autotune")
        record(f"{precision}: first step, s", round(time_steps(1), 1))
        time_steps(setting.warm_up_steps)
        num_steps = settings.scaled(AUTOTUNE_STEPS, least=1)
        record(f"{precision}: steps/s", round(num_steps / time_steps(num_steps), 1))
