"""Makes pictures small: a screenshot in the 256 colours that are most frequent in it, found by the browser itself."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

_REDUCE = """
async source => {
  const image = new Image();
  image.src = "data:image/png;base64," + source;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height).data, counts = new Map();
  const colour = at => pixels[at] << 16 | pixels[at + 1] << 8 | pixels[at + 2];
  for (let at = 0; at < pixels.length; at += 4) counts.set(colour(at), (counts.get(colour(at)) || 0) + 1);
  const palette = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([rgb]) => rgb), places = new Map();
  const apart = (a, b) => [16, 8, 0].reduce((sum, bits) => sum + ((a >> bits & 255) - (b >> bits & 255)) ** 2, 0);
  for (const rgb of counts.keys()) {
    let nearest = 0;
    palette.forEach((known, place) => { if (apart(rgb, known) < apart(rgb, palette[nearest])) nearest = place; });
    places.set(rgb, nearest);
  }
  let text = "";
  for (let at = 0; at < pixels.length; at += 4) text += String.fromCharCode(places.get(colour(at)));
  return {width: image.width, height: image.height, palette, pixels: btoa(text)};
}
"""


def reduce(page: Page, png: bytes) -> bytes:
    """
    Return a picture with at most 256 colours.

    :param page: any page of a browser; it stays as it is.
    :param png: the picture.
    """
    made = page.evaluate(_REDUCE, base64.b64encode(png).decode())
    width, height, pixels = made["width"], made["height"], base64.b64decode(made["pixels"])
    lines = b"".join(b"\0" + pixels[at : at + width] for at in range(0, len(pixels), width))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": b"".join(rgb.to_bytes(3, "big") for rgb in made["palette"]),
        b"IDAT": zlib.compress(lines, 9),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
