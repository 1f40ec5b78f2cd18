"""Which machine is checked?"""

from benchmarks.gpu_check.settings import Record, Settings
from benchmarks.machine import describe_machine
from gan.device import choose_device, library_versions, numerics


def describe(settings: Settings, record: Record) -> None:
    """Record the device, the versions and how a GPU computes. Raises DeviceError if the device cannot be used."""
    device = choose_device(settings.device)
    record("device", device.reason)
    found = describe_machine(settings.device)
    record("cores", found.num_cores)
    record("load average", found.load_average)
    record("commit", found.git_commit or "unknown")
    for name, version in (found.versions | library_versions(settings.device)).items():
        record(name, version)
    if settings.device == "cuda":
        for name, value in numerics().items():
            record(name, value)
