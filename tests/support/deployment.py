"""How does a test register the deployments, as the stack does?"""

from pathlib import Path

import pytest

from flows.deploy import main

ROOT = Path(__file__).parents[2]


def deploy(api: str, work_dir: Path) -> None:
    """Register the deployments with the server that this process uses; their runs work in a directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", api)  # for the command that `main` starts
        patch.setenv("GAN_WORK_DIR", str(work_dir))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.chdir(work_dir)
        assert main() == 0
