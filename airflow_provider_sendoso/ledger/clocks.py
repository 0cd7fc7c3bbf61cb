"""Measures elapsed time by the clocks of a process, because the database's clock may jump."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

# This clock runs on while the machine is suspended: a closed laptop, or a virtual machine that is being moved.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def since_boot() -> float:
    """Return the seconds since this machine was started, including those for which it was suspended."""
    return time.clock_gettime(_SINCE_BOOT)


@cache
def _boot() -> str:
    """Return the id of this boot of the machine; empty where the operating system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    except OSError:
        return ""


def mark() -> str:
    """
    Return the current moment in a form that another process can compare with its own clocks.

    :return: the boot's id, the seconds since it, and the seconds since 1970; at most 80 characters.
    """
    return f"{_boot()}:{since_boot():.3f}:{time.time():.3f}"


def elapsed(moment: str) -> float:
    """
    Return the seconds since a moment by this process's own clocks: the smallest number that any of them gives.

    :param moment: from :func:`mark`, called by this process or another. If both ran in the same boot of the same
        machine, the seconds since that boot are used, which nobody can set.
    """
    boot, booted, epoch = moment.split(":")
    seconds = time.time() - float(epoch)
    if boot and boot == _boot():
        seconds = min(seconds, since_boot() - float(booted))
    return seconds
