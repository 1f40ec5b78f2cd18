"""Which errors can a caller meet?

GanError
├── DataError                    what was read is not what it should be
│   ├── IdxFormatError           bytes that are no idx file of the expected kind
│   ├── ChecksumError            content whose SHA-256 is not the expected one
│   └── DownloadError            no mirror could give the file
├── CheckpointError              no checkpoint, or none that verifies
├── ConfigMismatchError          a resumed run was asked for with another config
├── DeviceError                  the device that was asked for cannot be used
├── RunError                     a run directory that cannot be used as asked
├── TrainingDivergedError        NaN or Inf in a loss or in a weight
├── TrainingCollapsedError       a training that is of no use any more, though every number is finite
└── StorageError                 a store, or the disk under a run, that cannot be used

Every message says what went wrong, where (file, key or step) and what to do.
"""


class GanError(Exception):
    """Root of every error this project raises on purpose; the commands exit 1 on it."""

    exit_code = 1


class DataError(GanError):
    """Data that is not what it should be; trying again does not help."""


class IdxFormatError(DataError):
    """Bytes that are not an idx file of the expected kind."""


class ChecksumError(DataError):
    """Content whose SHA-256 differs from the expected one."""


class DownloadError(DataError):
    """A file that no mirror could give; trying again may help."""


class CheckpointError(GanError):
    """A checkpoint that is missing or damaged."""


class ConfigMismatchError(GanError):
    """A run that was made with another config than the one asked for; the commands exit 2 on it."""

    exit_code = 2


class DeviceError(GanError):
    """A device that was asked for, or that a run was made on, and that cannot be used here."""


class RunError(GanError):
    """A run directory that cannot be used as asked: it exists, is in use, or is unfinished."""


class TrainingDivergedError(GanError):
    """A loss or weight that is NaN or infinite; trying again from the same state gives the same."""

    def __init__(self, message: str, step: int = 0, found: str = "") -> None:
        super().__init__(message)
        self.step = step  # the first with it; 0: not known
        self.found = found


class TrainingCollapsedError(GanError):
    """A training that is dead or has collapsed; trying again from the same state gives the same."""


class StorageError(GanError):
    """A store or disk that cannot be read or written; trying again may help."""
