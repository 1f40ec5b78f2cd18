"""How does a test register the deployments, as the stack does?"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def deploy(api: str, work_dir: Path) -> None:
    """Register the deployments with a server; their runs work in a directory."""
    environment = {**os.environ, "PREFECT_API_URL": api, "GAN_WORK_DIR": str(work_dir)}
    done = subprocess.run(
        [sys.executable, "-m", "flows.deploy"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
