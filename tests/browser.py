"""A browser for the tests: the machine's Chromium, or Debian's package, which is unpacked and not installed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import debian

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

INSTALL = "install Chromium or Chrome (chromium, google-chrome, brew install chromium)"

# It talks to this machine and to nothing else, so it needs no sandbox, which a container would not let it have.
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
<dir>/usr/share/fonts</dir><dir>{fetched}/usr/share/fonts</dir><cachedir>{cache}</cachedir>
<alias binding="same"><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
<match><edit name="family" mode="append_last"><string>DejaVu Sans</string></edit></match>
</fontconfig>
"""


def find_browser() -> Path | None:
    """
    Find the browser's program, or fetch it where there is apt; nothing is installed, and root is not needed.

    :return: ``None`` where there is neither.
    :raises RuntimeError: if apt cannot do it.
    """
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    if found:
        return Path(found)
    if not debian.has_apt():
        return None
    try:
        # Without any font there would be nothing to see in a screenshot.
        browser = debian.fetch("chromium", "chromium", "fonts-dejavu-core") / "usr" / "lib" / "chromium" / "chromium"
        if not browser.exists():
            raise RuntimeError("apt's package chromium has no browser in it.")
    except RuntimeError as error:
        raise RuntimeError(f"No browser for the tests; {INSTALL}. {error}") from None
    return browser


@contextmanager
def running(browser: Path) -> Iterator[BrowserContext]:
    """
    Run the browser with an empty profile, as somebody who reads English and has a small window.

    :param browser: its program.
    """
    from playwright.sync_api import sync_playwright

    empty = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
    with empty as name, sync_playwright() as driver:
        folder, environment = Path(name), dict(os.environ)
        if browser.is_relative_to(debian.ENVIRONMENT):
            fetched, fonts = browser.parents[3], folder / "fonts.conf"
            fonts.write_text(_FONTS.format(fetched=fetched, cache=folder / "fonts"))
            environment |= {"FONTCONFIG_FILE": str(fonts), "LD_LIBRARY_PATH": debian.library_path(fetched)}
        context = driver.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=browser,
            args=_FLAGS,
            env=environment,
            viewport={"width": 1100, "height": 900},
            locale="en-GB",
        )
        try:
            yield context
        finally:
            context.close()
