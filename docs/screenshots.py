"""Pictures for the documents: an overlay, and the page in every state (needs Chromium, requirements/debian.txt).

    python docs/screenshots.py

Starts the service on a free port; writes docs/images/overlay.jpg and docs/images/page-*.jpg.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from pneumoscope import load, sample_paths
from pneumoscope.explain import explain, overlay

IMAGES = Path(__file__).parent / "images"
OVERLAID = "person541_bacteria_2275"
WIDTHS = {"phone": (390, 844), "laptop": (1366, 768), "wide": (1920, 1080)}
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


def main() -> None:
    """Write all of them."""
    samples = sample_paths()
    drawn = overlay(explain(load(), next(path for path in samples if path.stem == OVERLAID)))
    small = cv2.resize(drawn, None, fx=760 / drawn.shape[1], fy=760 / drawn.shape[1], interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(IMAGES / "overlay.jpg"), small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    with tempfile.TemporaryDirectory() as folder, service() as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        blank = Path(folder, "blank.png")
        cv2.imwrite(str(blank), np.full((300, 400), 128, np.uint8))
        notes = Path(folder, "notes.txt")
        notes.write_text("no image")
        unsure = near_the_point(samples[-1], Path(folder, "uncertain.png"))
        shots = [
            ("empty", "laptop", "light", [], ""),
            ("working", "laptop", "light", samples * 6, ""),
            ("result", "laptop", "light", [samples[13]], ""),
            ("result", "phone", "dark", [samples[13]], ""),
            ("uncertain", "laptop", "dark", [unsure], ""),
            ("rejected", "phone", "light", [blank], ""),
            ("error", "laptop", "light", [notes], ""),
            ("many", "wide", "dark", [*samples[:5], *samples[8:17], notes], "reference-mobilenet"),
        ]
        for state, width, scheme, files, beside in shots:
            with opened(browser, address, width, scheme) as page:
                show(page, files, beside, wait=state != "working")
                write(page, f"page-{state}-{width}-{scheme}.jpg")


@contextmanager
def service():
    """The service on a free port; yields its address."""
    command = [sys.executable, "-m", "pneumoscope", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield re.search(r"http://\S+:\d+", process.stderr.readline()).group()
        finally:
            process.terminate()


@contextmanager
def opened(browser: Browser, address: str, width: str, scheme: str):
    """The page in a window of its own."""
    across, down = WIDTHS[width]
    context = browser.new_context(viewport={"width": across, "height": down}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#model option", state="attached")
    yield page
    context.close()


def show(page: Page, files: list[Path], beside: str, wait: bool) -> None:
    """Give the page files, and wait until they are judged."""
    if not files:
        return
    if beside:
        page.select_option("#second", beside)
    page.set_input_files("#files", [str(file) for file in files])
    page.locator("#worklist[data-left='0']" if wait else "#progress", has_text=f" of {len(files)} judged").wait_for()
    page.wait_for_selector("#panels .stage canvas[data-painted], #panels .label:text('Not judged')")
    page.wait_for_timeout(500)  # the picture is drawn with the next frames


def near_the_point(radiograph: Path, out: Path) -> Path:
    """A mixture with a blurred copy that the default model is not sure of."""
    predictor, pixels = load(), cv2.imread(str(radiograph), cv2.IMREAD_GRAYSCALE)
    normal = cv2.resize(cv2.imread(str(sample_paths()[0]), cv2.IMREAD_GRAYSCALE), pixels.shape[::-1])
    low, high = 0.0, 1.0
    for _ in range(30):
        share = (low + high) / 2
        mixed = cv2.addWeighted(pixels, share, normal, 1 - share, 0)
        probability = predictor.predict(mixed).probability
        low, high = (low, share) if probability > predictor.threshold else (share, high)
    cv2.imwrite(str(out), mixed)
    return out


def write(page: Page, name: str) -> None:
    """The whole page as JPEG."""
    page.screenshot(path=str(IMAGES / name), full_page=True, type="jpeg", quality=75)
    print(f"docs/images/{name}")


if __name__ == "__main__":
    main()
