"""What is checked on a machine with a GPU, in which order, why, and for how long?

The order is that of worth: whatever ends the check early, the most is known by then. Seven stages fit into the eight
minutes even if each takes its whole limit. The last two run in the time that the others have left.
"""

from benchmarks.gpu_check import correctness, kills, machine, speed, training
from benchmarks.gpu_check.settings import Stage

LIMIT_SECONDS = 480

PLAN = (
    Stage(
        "machine",
        20,
        "Name the GPU, its driver and the versions, and compute one sum: no figure is worth anything without them.",
        machine.describe,
    ),
    Stage(
        "tests",
        80,
        "Run the tests that are marked gpu: both engines in float64, CUDA graphs, resuming. None may be left out.",
        correctness.run_gpu_tests,
    ),
    Stage(
        "graphs",
        50,
        "Train each recipe in each precision for 1,000 steps in CUDA graphs and one by one: the bits must be the same.",
        correctness.compare_graphs,
        needs_gpu=True,
    ),
    Stage(
        "kills",
        80,
        "Kill a training of 12,000 steps five times by SIGKILL and resume it: every byte must be that of a run that "
        "nothing disturbed.",
        kills.kill_and_resume,
    ),
    Stage(
        "tuned",
        75,
        "Train 92,763 steps of tuned, then judge 10,000 samples: the time, the distance and the peak memory.",
        training.train_tuned,
    ),
    Stage(
        "dcgan",
        60,
        "Train 30,000 steps of dcgan, then judge 10,000 samples: the time, the distance and the peak memory.",
        training.train_dcgan,
    ),
    Stage(
        "bench",
        115,
        "Time our recipes beside the tutorial's loop, torch.compile, JAX and the limit of the hardware, three times.",
        speed.time_all_cases,
    ),
    Stage(
        "autotune",
        90,
        "Time torch.compile with max-autotune: is the most that torch's compiler can do faster than our engine?",
        speed.time_max_autotune,
        needs_gpu=True,
    ),
    Stage(
        "sanitizer",
        90,
        "Take 10 steps under NVIDIA's compute-sanitizer: no kernel may read or write outside its memory.",
        correctness.run_sanitizer,
        needs_gpu=True,
    ),
)
NUM_SURE = 7  # stages whose limits fit into LIMIT_SECONDS together
