"""The page in a real browser: what people do with it, with mouse, keyboard and files, and what they see."""

import base64
import csv
import io
import os
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from builders.serving import serving

from pneumoscope import load
from pneumoscope.inference.prediction import FIELDS
from pneumoscope.samples import SAMPLES

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    not CHROMIUM and not os.environ.get("PNEUMOSCOPE_BROWSER"),
    reason="needs Chromium, see requirements/debian.txt (PNEUMOSCOPE_BROWSER=1 makes this a failure)",
)
# Nothing but the page itself speaks to the network.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
JUDGED = "#rows tr"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "Chromium is not installed"
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def service():
    predictors = {name: load(name) for name in ("mobilenet", "reference-mobilenet", "reference-lstm")}
    with serving(predictors=predictors) as client:
        yield client


@pytest.fixture
def page(browser, service):
    """An open page; an error in its scripts fails the test."""
    context = browser.new_context(viewport={"width": 1366, "height": 900})
    page, errors = context.new_page(), []
    page.set_default_timeout(30_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(str(service.base_url))
    page.wait_for_selector("#model option", state="attached")
    yield page
    context.close()
    assert errors == []


def rows(page) -> list[list[str]]:
    return [[cell.inner_text() for cell in row.locator("td").all()] for row in page.locator("#rows tr").all()]


def wait_until_judged(page, count):
    """Until nothing is left to do with so many files, judged or not."""
    page.locator(f"#worklist[data-left='0'] #progress:text-matches('^[0-9]+ of {count} judged')").wait_for()


def add(page, *paths):
    page.set_input_files("#files", [str(path) for path in paths])


def pixels(page, scope="#panels .stage canvas", drawn=True) -> np.ndarray:
    """What the canvas shows, (H, W, 3) uint8; by default after the file was read and drawn."""
    if drawn:
        page.locator(f"{scope}:not([aria-label$='is being read'])").first.wait_for()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    address = page.locator(scope).first.evaluate("(canvas) => canvas.toDataURL()")
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(address.split(",")[1]), np.uint8), cv2.IMREAD_UNCHANGED)
    return np.round(picture[:, :, :3] * (picture[:, :, 3:] / 255)).astype(np.uint8)  # on black


def colourful(picture) -> float:
    return float(np.ptp(picture.astype(int), axis=2).mean())


def test_a_sample_gets_a_verdict_and_a_heatmap(page):
    assert page.locator(".notice").inner_text() == "Research use only, not a medical device."
    page.click("#sample")
    wait_until_judged(page, 1)
    ((name, verdict, probability),) = rows(page)
    assert name.endswith(".jpeg")
    assert verdict.startswith(("NORMAL", "PNEUMONIA"))
    found = load().predict(next(p for p in SAMPLES.rglob(name)))
    assert float(probability) == pytest.approx(found.probability, abs=1e-3)
    assert page.locator("#panels .label").inner_text() == found.label
    assert f"probability of pneumonia {found.probability:.3f}" in page.locator("#panels .figure").inner_text()
    assert "bacterial" in page.locator("#panels .reason").inner_text()
    assert colourful(pixels(page)) > 10


def test_files_are_judged_and_sorted_and_a_bad_one_says_why(page, samples, tmp_path):
    bad = tmp_path / "notes.txt"
    bad.write_text("no image")
    chosen = [samples[0], bad, samples[9], samples[17], samples[1]]
    add(page, *chosen)
    wait_until_judged(page, 5)
    found = {one.path: one for one in load().predict_many(chosen)}
    shown = rows(page)
    expected = sorted(chosen, key=lambda path: -(found[str(path)].probability or -1) if path != bad else 2)
    assert [row[0] for row in shown] == [path.name for path in expected]
    assert shown[-1] == ["notes.txt", "error", "–"]
    assert page.locator("#progress").inner_text() == "4 of 5 judged, 1 could not be"
    page.get_by_role("button", name="notes.txt").click()
    assert "expected a JPEG, PNG, TIFF, BMP, WebP or DICOM image" in page.locator("#panels .reason").inner_text()
    assert page.locator("#panels .label").inner_text() == "Not judged"


def test_files_dropped_and_pasted(page, samples):
    data = list(samples[9].read_bytes())
    script = """([name, data, kind]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(data)], name, { type: "image/jpeg" }));
        const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true })
            : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
        document.body.dispatchEvent(event);
    }"""
    page.evaluate(script, ["dropped.jpeg", data, "drop"])
    wait_until_judged(page, 1)
    page.evaluate(script, ["pasted.jpeg", data, "paste"])
    wait_until_judged(page, 2)
    assert {row[0] for row in rows(page)} == {"dropped.jpeg", "pasted.jpeg"}
    assert len({row[2] for row in rows(page)}) == 1


def test_the_overlay_follows_its_slider_and_its_button(page, samples):
    add(page, samples[9])
    wait_until_judged(page, 1)
    seen = {}
    for value in (0, 50, 100):
        page.locator("#opacity").fill(str(value))
        seen[value] = colourful(pixels(page))
    assert seen[0] < 1 < seen[50] < seen[100]
    page.click("[data-do=heatmap]")
    assert page.locator("[data-do=heatmap]").get_attribute("aria-pressed") == "false"
    assert colourful(pixels(page)) < 1
    radiograph = cv2.imread(str(samples[9]), cv2.IMREAD_GRAYSCALE)
    shown = pixels(page)[:, :, 0]
    lit = np.argwhere(shown > 5)
    top, left = lit.min(axis=0)
    bottom, right = lit.max(axis=0) + 1
    small = cv2.resize(radiograph, (int(right - left), int(bottom - top)), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - shown[top:bottom, left:right]).mean() < 6


def test_window_and_zoom_by_drag_wheel_and_buttons(page, samples):
    add(page, samples[9])
    wait_until_judged(page, 1)
    page.click("[data-do=heatmap]")
    before = pixels(page)
    box = page.locator("#panels .stage canvas").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0], middle[1] + 100)
    page.mouse.up()
    assert pixels(page).mean() > before.mean() + 10  # a lower centre is brighter
    assert page.locator("#centre").input_value() == "78"
    page.click("[data-do=reset]")
    assert page.locator("#centre").input_value() == "128"
    page.click("[data-do=heatmap]")
    page.click("[data-do=invert]")
    black = before.max(axis=2) < 3
    assert (255 - pixels(page)[~black].astype(int) - before[~black]).mean() == pytest.approx(0, abs=8)
    page.click("[data-do=invert]")
    page.mouse.move(*middle)
    page.mouse.wheel(0, -400)
    assert np.abs(pixels(page).astype(int) - before).mean() > 10
    zoomed = pixels(page)
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(middle[0] + 80, middle[1])
    page.mouse.up()
    page.keyboard.up("Shift")
    moved = pixels(page)
    np.testing.assert_allclose(moved[50:-50, 180:-20], zoomed[50:-50, 100:-100], atol=40)
    page.click("[data-do=reset]")
    page.click("[data-do=heatmap]")
    np.testing.assert_allclose(pixels(page), before, atol=2)


def test_two_fingers_zoom_and_move_and_one_sets_the_window(browser, service, samples):
    context = browser.new_context(viewport={"width": 412, "height": 915}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(str(service.base_url))
    page.wait_for_selector("#model option", state="attached")
    add(page, samples[9])
    wait_until_judged(page, 1)
    canvas = page.locator("#panels .stage canvas")
    canvas.scroll_into_view_if_needed()
    before, box = pixels(page), canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = context.new_cdp_session(page)

    def touch(kind, *points):
        fingers = [{"x": at[0], "y": at[1], "id": number} for number, at in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    touch("touchStart", (x - 30, y), (x + 30, y))
    for step in (40, 50, 60):
        touch("touchMove", (x - step, y), (x + step, y))
    touch("touchEnd")
    zoomed = pixels(page)
    height, width = before.shape[:2]
    half = before[height // 4 : height - height // 4, width // 4 : width - width // 4]
    twice = cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)
    assert np.abs(zoomed.astype(int) - twice).mean() < 0.5 * np.abs(zoomed.astype(int) - before).mean()
    assert page.evaluate("visualViewport.scale") == 1  # the picture is enlarged, not the page
    touch("touchStart", (x, y))
    for step in (20, 40, 60):
        touch("touchMove", (x, y + step))
    touch("touchEnd")
    assert pixels(page).mean() > zoomed.mean() + 5
    assert page.locator("#centre").input_value() == "98"
    context.close()


def test_the_keyboard_alone_does_it(page):
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "sample":
            break
    page.keyboard.press("Enter")
    wait_until_judged(page, 1)
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "CANVAS":
            break
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Radiograph ")
    page.keyboard.press("h")
    before = pixels(page)
    assert colourful(before) < 1
    for key, back in (("i", "i"), ("+", "0"), ("ArrowLeft", "ArrowRight")):
        page.keyboard.press(key)
        assert np.abs(pixels(page).astype(int) - before).mean() > 3, key
        page.keyboard.press(back)
        if back == "0":
            page.keyboard.press("h")
        np.testing.assert_allclose(pixels(page), before, atol=2)


def test_a_refused_picture_is_shown_and_what_is_none_takes_no_room(page, tmp_path):
    blank, notes = tmp_path / "blank.png", tmp_path / "notes.txt"
    cv2.imwrite(str(blank), np.full((300, 400), 128, np.uint8))
    notes.write_text("no image")
    add(page, blank, notes)
    wait_until_judged(page, 2)
    page.get_by_role("button", name="blank.png").click()
    page.locator("canvas[aria-label='Radiograph blank.png, no verdict']").wait_for()
    assert pixels(page)[100, 100].tolist() == [128, 128, 128]
    page.get_by_role("button", name="notes.txt").click()
    page.locator("#tools").wait_for(state="hidden")
    assert page.locator("#panels .stage").is_hidden()
    page.get_by_role("button", name="blank.png").click()
    page.locator("#tools").wait_for()
    assert page.locator("#panels .stage").is_visible()


def test_on_a_phone_a_row_leads_to_its_radiograph(browser, service, samples):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(str(service.base_url))
    page.wait_for_selector("#model option", state="attached")
    add(page, *samples[:6])
    wait_until_judged(page, 6)
    page.evaluate("window.scrollTo(0, 0)")
    page.locator("#rows button").first.click()
    assert 0 <= page.locator("#result").bounding_box()["y"] < 0.7 * 844
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_two_models_beside_each_other(page, samples):
    add(page, samples[9])
    wait_until_judged(page, 1)
    page.select_option("#second", "reference-lstm")
    wait_until_judged(page, 1)
    assert page.locator("#panels .panel").count() == 2
    expected = [load(name).predict(samples[9]).probability for name in ("mobilenet", "reference-lstm")]
    shown = [float(text.split()[-1]) for text in page.locator("#panels .figure").all_inner_texts()]
    assert shown == pytest.approx(expected, abs=1e-3)
    assert "no heatmap" in page.locator("#panels .reason").nth(1).inner_text()
    page.select_option("#model", "reference-mobilenet")
    page.locator("#panels .reason", has_text="reference-mobilenet").wait_for()
    page.select_option("#second", "")
    assert page.locator("#panels .panel").count() == 1


def test_another_operating_point_judges_again(page, samples):
    add(page, samples[0])
    wait_until_judged(page, 1)
    page.select_option("#point", "screening")
    point = load(threshold="screening").threshold
    page.locator("#panels .reason", has_text=f"PNEUMONIA from {point:.3f} on").wait_for()


def test_what_is_saved(page, samples):
    chosen = [samples[0], samples[9], samples[17]]
    add(page, *chosen)
    wait_until_judged(page, 3)
    with page.expect_download() as download:
        page.click("#csv")
    table = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert tuple(table[0]) == FIELDS
    for row, one, path in zip(table, load().predict_many(chosen), chosen, strict=True):
        assert row["path"] == path.name
        assert row["image_sha256"] == one.image_sha256
        assert float(row["probability"]) == pytest.approx(one.probability, abs=1e-6)
    with page.expect_download() as download:
        page.click("#overlays")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{path.stem}.png" for path in chosen]
        for path in chosen:
            picture = cv2.imdecode(np.frombuffer(archive.read(f"{path.stem}.png"), np.uint8), cv2.IMREAD_COLOR)
            assert picture.shape[:2] == cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).shape
            assert colourful(picture) > 5


def test_many_files_can_be_cancelled_and_forgotten(page, samples):
    add(page, *samples * 4)
    page.click("#cancel")
    wait_until_judged(page, 96)
    cancelled = [row[1] for row in rows(page)].count("cancelled")
    assert cancelled > 0
    assert page.locator("#progress").inner_text() == f"{96 - cancelled} of 96 judged, {cancelled} cancelled"
    assert page.locator("#cancel").is_hidden()
    page.click("#again")
    wait_until_judged(page, 96)
    assert "cancelled" not in {row[1] for row in rows(page)}
    page.click("#clear")
    assert rows(page) == []
    assert page.locator("#result").is_hidden()
    add(page, samples[0])
    wait_until_judged(page, 1)


def test_a_dicom_file_is_shown_as_the_service_reads_it(page, samples, tmp_path):
    from builders.dicom_files import dicom_file

    radiograph = cv2.imread(str(samples[9]), cv2.IMREAD_GRAYSCALE)
    path = tmp_path / "image.dcm"
    path.write_bytes(dicom_file(255 - radiograph, PhotometricInterpretation="MONOCHROME1"))
    add(page, path)
    wait_until_judged(page, 1)
    page.click("[data-do=heatmap]")
    page.locator("canvas[aria-label*='PNEUMONIA']").wait_for()
    from_dicom = pixels(page)
    assert from_dicom.std() > 20
    page.click("#clear")
    png = tmp_path / "image.png"
    cv2.imwrite(str(png), radiograph)
    add(page, png)
    wait_until_judged(page, 1)
    page.click("[data-do=heatmap]") if page.locator("[data-do=heatmap][aria-pressed=true]").count() else None
    np.testing.assert_allclose(pixels(page), from_dicom, atol=2)


def held(page, path):
    """Holds requests to a path; returns how to let them go."""
    waiting = []
    page.route(f"**{path}*", lambda route: waiting.append(route))

    def release():
        for route in waiting:
            route.continue_()
        page.unroute(f"**{path}*")

    return release


def test_no_picture_stands_under_the_name_of_another(page, samples, tmp_path):
    other = tmp_path / "other.png"
    cv2.imwrite(str(other), cv2.imread(str(samples[0]), cv2.IMREAD_GRAYSCALE))
    add(page, samples[9])
    wait_until_judged(page, 1)
    page.locator("canvas[aria-label^='Radiograph']").wait_for()
    assert pixels(page).std() > 10
    release = held(page, "/v1/renderings")
    add(page, other)
    wait_until_judged(page, 2)
    page.get_by_role("button", name="other.png").click()
    assert page.locator("#result-title").inner_text() == "other.png"
    assert pixels(page, drawn=False).max() == 0
    assert "is being read" in page.locator("#panels .stage canvas").get_attribute("aria-label")
    release()
    page.locator("canvas[aria-label^='Radiograph other.png']").wait_for()
    assert pixels(page).std() > 10
    page.click("#clear")
    assert page.locator("#panels .panel").count() == 0


def test_a_late_answer_does_not_stand_for_another_question(page, samples):
    release = held(page, "/v1/predictions")
    add(page, samples[0])
    page.select_option("#point", "screening")
    release()
    point = load(threshold="screening").threshold
    page.locator("#panels .reason", has_text=f"PNEUMONIA from {point:.3f} on").wait_for()
    page.select_option("#model", "reference-mobilenet")
    page.locator("#panels .reason", has_text="reference-mobilenet").wait_for()
    wait_until_judged(page, 1)
    page.select_option("#model", "mobilenet")
    wait_until_judged(page, 1)
    assert page.locator("#point").input_value() == "default"
    assert "PNEUMONIA from 0.500 on" in page.locator("#panels .reason").inner_text()


@pytest.mark.parametrize(("threshold", "chosen"), [("screening", "screening"), (0.3, "")])
def test_the_point_that_the_service_was_started_with_is_the_one_in_use(browser, samples, threshold, chosen):
    context = browser.new_context()
    page = context.new_page()
    started = load(threshold=threshold)
    with serving(predictors={"mobilenet": started}) as client:
        page.goto(str(client.base_url))
        add(page, samples[0])
        wait_until_judged(page, 1)
        assert page.locator("#point").input_value() == chosen
        assert f"PNEUMONIA from {started.threshold:.3f} on" in page.locator("#panels .reason").inner_text()
        context.close()


def test_a_png_of_twelve_bits_is_shown_as_it_is_judged(page, samples, tmp_path):
    radiograph = cv2.imread(str(samples[9]), cv2.IMREAD_GRAYSCALE)
    deep = tmp_path / "deep.png"
    cv2.imwrite(str(deep), radiograph.astype(np.uint16) << 4)
    add(page, deep)
    wait_until_judged(page, 1)
    page.click("[data-do=heatmap]")
    page.locator("canvas[aria-label^='Radiograph deep.png']").wait_for()
    shown = pixels(page)
    assert shown[shown.sum(axis=2) > 0].mean() == pytest.approx(radiograph[radiograph > 0].mean(), abs=6)


def test_what_failed_once_is_tried_again(page, samples):
    page.route("**/v1/predictions*", lambda route: route.fulfill(status=500, json={"detail": "broken for once"}))
    add(page, samples[9])
    page.locator("#message", has_text="broken for once").wait_for()
    assert page.locator("#progress").inner_text() == "0 of 1 judged, 1 could not be"
    page.unroute("**/v1/predictions*")
    page.click("#again")
    wait_until_judged(page, 1)
    assert page.locator("#progress").inner_text() == "1 of 1 judged"


def test_the_overlays_are_those_of_the_moment_they_were_asked_for(page, samples):
    add(page, *samples[:12])
    wait_until_judged(page, 12)
    with page.expect_download() as download:
        page.click("#overlays")
        page.select_option("#model", "reference-lstm")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len(archive.namelist()) == 12


def test_the_lungs_are_outlined_where_their_field_crosses_one_half(page):
    """A field of 4 x 4 cells that is 1 in the middle four: its outline runs along the edges of these cells."""
    shown = page.evaluate("""async () => {
        const { outlineOf, drawOutline } = await import("/page/viewer.js");
        const canvas = new OffscreenCanvas(200, 100), context = canvas.getContext("2d");
        const inside = [0, 1, 1, 0];
        drawOutline(context, outlineOf(inside.map((row) => inside.map((column) => row * column))), 0, 0, 200, 100);
        const { data } = context.getImageData(0, 0, 200, 100);
        return Array.from({ length: 20000 }, (_, i) => data[4 * i + 3]);
    }""")
    drawn = np.array(shown).reshape(100, 200) > 0
    assert sorted({round(x / 5) * 5 for x in np.flatnonzero(drawn[50])}) == [50, 150]
    assert sorted({round(y / 5) * 5 for y in np.flatnonzero(drawn[:, 100])}) == [25, 75]
    assert not drawn[:20].any()
    assert not drawn[:, 160:].any()


def test_the_card_says_what_was_measured(page):
    page.click("#card-button")
    page.locator("#card[open]").wait_for()
    text = page.locator("#card").inner_text()
    auc = load().bundle.contract["metrics"]["roc_auc"]
    assert f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f}; n = {auc['n']})" in text
    page.keyboard.press("Escape")
    assert page.locator("#card[open]").count() == 0


def test_a_service_that_has_gone_is_said(browser, samples):
    context = browser.new_context()
    page = context.new_page()
    with serving(predictors={"mobilenet": load()}) as client:
        page.goto(str(client.base_url))
        page.wait_for_selector("#model option", state="attached")
    add(page, samples[0])
    page.locator("#message", has_text="is it still running?").wait_for()
    page.locator("#rows tr td.failed").wait_for()
    context.close()


def test_a_token_is_asked_for(browser, samples):
    context = browser.new_context()
    page = context.new_page()
    with serving(predictors={"mobilenet": load()}, token="a-token-of-some-length") as client:
        page.goto(str(client.base_url))
        page.locator("#message", has_text="with the token of this service").wait_for()
        add(page, samples[9])
        page.fill("#token", "another-token-of-some-length")
        page.keyboard.press("Enter")
        page.locator("#message", has_text="with the token of this service").wait_for()
        page.fill("#token", "a-token-of-some-length")
        page.keyboard.press("Enter")
        page.wait_for_selector("#model option", state="attached")
        wait_until_judged(page, 1)
        assert rows(page)[0][1].startswith("PNEUMONIA")
        assert page.locator("#message").is_hidden()
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1366])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(browser, service, samples, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(str(service.base_url))
    page.wait_for_selector("#model option", state="attached")
    for step in ("empty", "judged", "card"):
        if step == "judged":
            add(page, samples[9], samples[0])
            wait_until_judged(page, 2)
        if step == "card":
            page.click("#card-button")
            page.locator("#card[open]").wait_for()
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == [], step
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
