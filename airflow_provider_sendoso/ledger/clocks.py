"""How long ago something happened by a process's own clocks, for the database's clock may jump."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

# Suspension counts: a laptop's lid, or a virtual machine that was moved.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def since_boot() -> float:
    """Return the seconds since this machine was started, those in which it was suspended included."""
    return time.clock_gettime(_SINCE_BOOT)


@cache
def _boot() -> str:
    """Name this boot of this machine; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    except OSError:
        return ""


def mark() -> str:
    """
    Return this moment, as another process can compare it with its own clocks.

    :return: the boot's id, the seconds since it, and the seconds since 1970; at most 80 characters.
    """
    return f"{_boot()}:{since_boot():.3f}:{time.time():.3f}"


def elapsed(moment: str) -> float:
    """
    Return the seconds since a moment by this process's own clocks: the fewest that any of them says.

    :param moment: of :func:`mark`, made by this process or another. The seconds since the boot, which nobody can set,
        count where both processes belong to the same boot of the same machine.
    """
    boot, booted, epoch = moment.split(":")
    seconds = time.time() - float(epoch)
    if boot and boot == _boot():
        seconds = min(seconds, since_boot() - float(booted))
    return seconds
