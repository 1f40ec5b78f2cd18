"""Which errors can this project raise?

GanError
├── DataError                    data that is not what it should be
│   ├── IdxFormatError           bytes that are not an idx file of the expected kind
│   ├── ChecksumError            content whose SHA-256 is not the expected one
│   └── DownloadError            no mirror has a good copy of the file
│       └── TooLargeError        a mirror's file has more bytes than the file may have
├── CheckpointError              no checkpoint, or only damaged ones
├── ConfigMismatchError          a run was resumed with another config
├── DeviceError                  the requested device cannot be used
├── RecipeError                  a recipe of the user's that cannot be used
├── SettingError                 an environment variable with a value that cannot be used
├── RunError                     a run directory that cannot be used in the requested way
│   ├── RunInUseError            another process trains or measures the run
│   └── TakenOverError           another process has taken over the run; this one may not write any more
├── TrainingDivergedError        NaN or Inf in a loss or in a weight
├── TrainingCollapsedError       a training that has failed, although every number is finite
├── StorageError                 a store, or the disk under a run, that cannot be used
└── UnexpectedError              an error that nobody has foreseen

Every message says what went wrong, where (file, key or step) and what to do. It shows no secret.
"""


class GanError(Exception):
    """Base class of every error that this project raises on purpose. The commands exit 1 on it."""

    exit_code = 1


class DataError(GanError):
    """Data that is not what it should be. Trying again does not help."""


class IdxFormatError(DataError):
    """Bytes that are not an idx file of the expected kind."""


class ChecksumError(DataError):
    """Content whose SHA-256 differs from the expected one."""


class DownloadError(DataError):
    """A file of which no mirror has a good copy. Trying again may help."""


class TooLargeError(DownloadError):
    """A mirror's file with more bytes than the file may have. `head` are its first bytes."""

    def __init__(self, message: str, head: bytes) -> None:
        super().__init__(message)
        self.head = head


class CheckpointError(GanError):
    """A checkpoint that is missing or damaged."""


class ConfigMismatchError(GanError):
    """A run that was made with another config than the given one. The commands exit 2 on it."""

    exit_code = 2


class DeviceError(GanError):
    """A device that was requested, or on which a run was made, and that cannot be used here."""


class RecipeError(GanError):
    """A recipe of the user's that cannot be imported, is no recipe, or fails. Trying again does not help."""


class SettingError(GanError):
    """An environment variable with a value that cannot be used. The commands exit 2 on it."""

    exit_code = 2


class RunError(GanError):
    """A run directory that cannot be used in the requested way: it exists, is in use, or is unfinished."""


class RunInUseError(RunError):
    """A run that another process trains or measures. Trying again later may help."""


class TakenOverError(RunError):
    """A run that another process has taken over. This process must not write to its store, nor say how it ended."""


class TrainingDivergedError(GanError):
    """A loss or weight that is NaN or infinite. Trying again from the same state gives the same result."""

    def __init__(self, message: str, step: int = 0, found: str = "") -> None:
        super().__init__(message)
        self.step = step  # the first step with it; 0 if it is not known
        self.found = found


class TrainingCollapsedError(GanError):
    """A training that is dead or has collapsed. Trying again from the same state gives the same result."""


class StorageError(GanError):
    """A store or disk that cannot be read or written. Trying again may help."""


class UnexpectedError(GanError):
    """An error that nobody has foreseen. Its message has no secret, unlike that of the error itself."""
