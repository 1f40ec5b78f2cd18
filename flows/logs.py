"""Which log messages does Prefect's UI show?"""

import logging

LOGGERS = ("gan", "flows")  # each module logs under its own name, so these two are the parents of all
EXTRA_LOGGERS = ",".join(LOGGERS)  # for Prefect's setting PREFECT_LOGGING_EXTRA_LOGGERS


def enable_info() -> None:
    """Let messages of level INFO pass: Prefect takes what a logger's level lets through, by default warnings."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
