"""Pages as a real browser shows them: headless Chromium, with no network."""

import html
import json
import re
import shutil
import subprocess

import pytest

from tests.commands import PATIENCE


MEASURE = """
const shown = [...document.querySelectorAll("iframe")].map((frame) => {
  const inside = frame.contentDocument, whole = inside.scrollingElement;
  return {
    asked: frame.contentWindow.performance.getEntriesByType("resource")
      .map((one) => one.name).filter((name) => !name.startsWith("data:")),
    overflow: whole.scrollWidth - whole.clientWidth,
    cut: Math.max(0, ...[...inside.querySelectorAll(".wide")]
      .map((one) => one.scrollWidth - one.clientWidth)),
    images: [...inside.images].map((one) => ({
      alt: one.alt, width: one.naturalWidth, scale: one.width / one.naturalWidth,
    })),
    table: [...inside.querySelectorAll("tr")]
      .map((row) => [...row.cells].map((cell) => cell.textContent)),
  };
});
document.body.textContent = JSON.stringify(shown);
"""
"""Run when all frames have loaded; a page of their origin may look into them."""

OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
).split()


def chromium():
    """The program; the test is skipped where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("NOT CHECKED in a browser: no Chromium (apt-get install chromium)")
    return found


def pages_shown(page, widths, folder):
    """What a page shows on screens of these widths in pixels.

    Frames have the widths asked for; a window has at least some 500 pixels.
    """
    text = html.escape(page.read_text())
    frames = "".join(
        f'<iframe width="{w}" height="900" style="border: 0" srcdoc="{text}"></iframe>'
        for w in widths
    )
    wrapper = folder / "frames.html"
    script = f"<script>window.onload = () => {{{MEASURE}}}</script>"
    wrapper.write_text(f"<!doctype html><meta charset=utf-8>{script}<body>{frames}")
    profile = f"--user-data-dir={folder / 'profile'}"
    nowhere = "--host-resolver-rules=MAP * ~NOTFOUND"
    command = [chromium(), *OPTIONS, profile, nowhere, "--dump-dom", wrapper.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    found = re.search(r"<body>(\[.*\])</body>", result.stdout, re.DOTALL)
    assert found, f"{result.returncode}: {result.stdout[:500]}\n{result.stderr[-2000:]}"
    return json.loads(html.unescape(found[1]))


def assert_readable(seen):
    """What holds of a report on any screen: it is whole, and letters are of a size."""
    assert seen["asked"] == []
    assert seen["overflow"] == 0
    assert len(seen["images"]) >= 3
    for image in seen["images"]:
        assert image["width"] > 0, f"not loaded: {image['alt']}"
        assert len(image["alt"]) > 30
        # Letters of 10 pt, some 13 pixels, are then 8 pixels or more.
        assert image["scale"] > 0.6, f"too small: {image['alt']}"
