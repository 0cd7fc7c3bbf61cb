"""
The built pages in a browser: light, dark and on a phone; and what the search finds.

With ``DOCS_PICTURES`` set to a folder, pictures of the main pages are left there, to be looked at.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow

PICTURES = os.environ.get("DOCS_PICTURES")
DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md") if "_build" not in path.parts)
LOOKS: dict[str, tuple[int, Literal["light", "dark"]]] = {
    "light": (1280, "light"),
    "dark": (1280, "dark"),
    "phone": (375, "light"),
}

# Text against what is behind it, by WCAG 2: 4.5, or 3 for large text. What is not shown, or behind half-transparent
# colours, is left out.
FAINT = """
() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
      if (colour[3] > 0) return null;
    }
    return [255, 255, 255];
  };
  const found = new Map();
  const walker = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement, style = getComputedStyle(element);
    const rect = element.getBoundingClientRect();
    if (!node.data.trim() || !rect.width || !rect.height || style.visibility !== "visible") continue;
    const colour = parse(style.color), back = behind(element);
    if (!back || (colour.length === 4 && colour[3] < 1)) continue;
    const [high, low] = [light(colour), light(back)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) {
      found.set(element.className + " " + style.color + " on " + back, `${ratio.toFixed(2)}: ${node.data.trim()}`);
    }
  }
  return [...found].map(([where, what]) => `${where}: ${what}`);
}
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Not in the tests' output."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site behind a real server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser's console complains of, and what it does not get."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(f"not got: {request.url}"))
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))  # the site has none
    return said


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_can_be_read(page: Page, address: str, complaints: list[str], look: str) -> None:
    width, scheme = LOOKS[look]
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    wide, faint, broken = [], [], []
    for name in PAGES:
        page.goto(f"{address}/{name}.html")
        sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        wide += [f"{name}: {sideways} px"] if sideways > 0 else []
        faint += [f"{name}: {text}" for text in page.evaluate(FAINT)]
        broken += page.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)")
        if PICTURES:
            page.screenshot(path=Path(PICTURES) / f"{name.replace('/', '-')}-{look}.png", full_page=True)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert (wide, broken, complaints) == ([], [], [])
    assert faint == []


@pytest.mark.parametrize("word", ["slack", "staging", "weekly", "CI", "pytest", "signup"])
def test_the_search_box_finds_the_page_that_shows_how(
    page: Page, address: str, complaints: list[str], word: str
) -> None:
    page.goto(f"{address}/index.html")
    page.get_by_placeholder("Search").fill(word)
    page.keyboard.press("Enter")
    found = page.locator("#search-results li a")
    expect(page.locator("#search-results")).to_contain_text("Search finished")
    assert [link for link in found.all() if "howto/" in str(link.get_attribute("href"))]
    assert complaints == []


def test_on_a_phone_the_menu_opens_and_leads_to_a_page(page: Page, address: str, complaints: list[str]) -> None:
    page.set_viewport_size({"width": 375, "height": 800})
    page.goto(f"{address}/index.html")
    page.locator("label.nav-overlay-icon").first.click()
    page.get_by_role("link", name="How do I…").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("How do I…")
    assert complaints == []
