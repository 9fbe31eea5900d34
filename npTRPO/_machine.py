"""The machine that results depend on."""

import contextlib
import os
import platform
from pathlib import Path


def processor() -> str:
    """Return the name of the processor's model, on which a run's last bits depend."""
    with contextlib.suppress(OSError):  # Linux's file, which other systems don't have
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
