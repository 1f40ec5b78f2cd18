"""Which settings does Prefect have in a test's process? It has its own home. Import this before Prefect."""

import os
import tempfile

HOME = tempfile.mkdtemp(prefix="gan-train-tests-")  # keeps the user's database and settings out
os.environ.update(
    PREFECT_HOME=HOME,
    PREFECT_LOGGING_EXTRA_LOGGERS="gan,flows",
    PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="CRITICAL",
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW="ignore",
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="false",
    DO_NOT_TRACK="1",
)
