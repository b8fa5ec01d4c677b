"""The pictures of the documents: an overlay, and the page in every state.

``python tools/generate.py --pictures`` calls this. It needs Chromium (requirements/debian.txt) and the extra ``serve``.
It starts the service on a free port. For every state of the page it makes a sheet, docs/images/page-STATE.jpg: on a
phone, a laptop and a wide screen, light above dark.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import picture_sources
from playwright.sync_api import Browser, Page, sync_playwright

from pneumoscope import load, sample_paths
from pneumoscope.inference.explain import explain
from pneumoscope.output.overlay import draw_overlay

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
OVERLAID = "person541_bacteria_2275"
#: Sizes of windows, and how wide their pictures are on a sheet.
WINDOWS = {"phone": (390, 844, 260), "laptop": (1366, 768, 640), "wide": (1920, 1080, 860)}
SCHEMES = ("light", "dark")
GAP, PAPER = 20, 200  # pixels between pictures, and their gray
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


def write_all() -> None:
    """Write every picture, and record what they were made from."""
    write("overlay.jpg", overlay_picture(), quality=85)
    picture_sources.record("overlay")
    write_page_pictures()
    picture_sources.record("page")


def overlay_picture() -> np.ndarray:
    """The heatmap of the README, (H, W, 3) uint8 BGR."""
    radiograph = next(path for path in sample_paths() if path.stem == OVERLAID)
    return scaled(draw_overlay(explain(load(), radiograph))[:, :, ::-1], 760)


def write_page_pictures() -> None:
    """The page in every state."""
    samples = sample_paths()
    with tempfile.TemporaryDirectory() as folder, service() as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        blank, notes = Path(folder, "blank.png"), Path(folder, "notes.txt")
        cv2.imwrite(str(blank), np.full((300, 400), 128, np.uint8))
        notes.write_text("no image")
        unsure = near_the_threshold(samples[-1], Path(folder, "uncertain.png"))
        states: dict[str, tuple[list[Path], str]] = {
            "empty": ([], ""),
            "working": (samples * 6, ""),
            "result": ([samples[13]], ""),
            "uncertain": ([unsure], ""),
            "rejected": ([blank], ""),
            "error": ([notes], ""),
            "many": ([*samples[:5], *samples[8:17], notes], "reference-mobilenet"),
        }
        for state, (files, second_model) in states.items():
            write_state(browser, address, state, files, second_model)


def write_state(browser: Browser, address: str, state: str, files: list[Path], second_model: str) -> None:
    """The sheet of one state; for a result also the picture of the how-to guide."""
    rows = []
    for scheme in SCHEMES:
        row = []
        for window in WINDOWS:
            with opened(browser, address, window, scheme) as page:
                give_files(page, files, second_model, wait=state != "working")
                row.append(picture(page))
            if (state, scheme, window) == ("result", "light", "laptop"):
                write("page.jpg", row[-1], quality=75)
        rows.append(row)
    write(f"page-{state}.jpg", sheet(rows), quality=65)


@contextmanager
def service() -> Iterator[str]:
    """The service on a free port; yields its address."""
    command = [sys.executable, "-m", "pneumoscope", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield re.search(r"http://\S+:\d+", process.stderr.readline()).group()
        finally:
            process.terminate()


@contextmanager
def opened(browser: Browser, address: str, window: str, scheme: str) -> Iterator[Page]:
    """The page in a new window; the window closes at the end."""
    across, down, _ = WINDOWS[window]
    context = browser.new_context(viewport={"width": across, "height": down}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#model option", state="attached")
    yield page
    context.close()


def give_files(page: Page, files: list[Path], second_model: str, wait: bool) -> None:
    """Give files to the page, and wait until they are judged, or until the first of many are."""
    if not files:
        return
    if second_model:
        page.select_option("#second", second_model)
    page.set_input_files("#files", [str(file) for file in files])
    page.locator("#worklist[data-left='0']" if wait else "#progress", has_text=f" of {len(files)} judged").wait_for()
    page.wait_for_selector("#panels .stage canvas[data-painted], #panels .label:text('Not judged')")
    page.wait_for_timeout(500)  # the picture is drawn with the next frames


def near_the_threshold(radiograph: Path, out: Path) -> Path:
    """A mixture of a pneumonia and a normal radiograph that the default model calls uncertain."""
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


def picture(page: Page) -> np.ndarray:
    """A picture of the whole page, (H, W, 3) uint8 BGR."""
    return cv2.imdecode(np.frombuffer(page.screenshot(full_page=True), np.uint8), cv2.IMREAD_COLOR)


def scaled(image: np.ndarray, width: int) -> np.ndarray:
    """The picture at another width."""
    height = round(image.shape[0] * width / image.shape[1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def sheet(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Pictures in rows and columns on gray paper."""
    widths = [width for _, _, width in WINDOWS.values()]
    lines = []
    for row in rows:
        small = [scaled(image, width) for image, width in zip(row, widths, strict=True)]
        line = np.full((GAP + max(map(len, small)), sum(widths) + GAP * (len(widths) + 1), 3), PAPER, np.uint8)
        left = GAP
        for image in small:
            line[GAP : GAP + len(image), left : left + image.shape[1]] = image
            left += image.shape[1] + GAP
        lines.append(line)
    return np.vstack([*lines, np.full((GAP, lines[0].shape[1], 3), PAPER, np.uint8)])


def write(name: str, image: np.ndarray, quality: int) -> None:
    """Write a JPEG to docs/images."""
    cv2.imwrite(str(IMAGES / name), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    print(f"docs/images/{name}")
