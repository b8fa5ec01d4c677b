"""Overlays without other results: explain; and demo, which draws all bundled images."""

import cv2


def test_explain_one_and_many(run, samples, tmp_path):
    code, _, err = run("explain", samples[0], "--out", "overlay.png")
    assert code == 0
    assert "Grad-CAM for NORMAL" in err
    assert cv2.imread(str(tmp_path / "overlay.png")) is not None
    code, _, err = run("explain", samples[0], samples[9], "missing.png", "--out", "many", "--class", "PNEUMONIA")
    assert code == 1
    assert len(list((tmp_path / "many").glob("*.png"))) == 2
    assert "missing.png: expected an image file" in err


def test_explain_says_that_an_lstm_has_no_feature_map(run, samples):
    code, _, err = run("explain", samples[9], "--out", "o.png", "--model", "reference-lstm")
    assert code == 0
    assert "occlusion sensitivity for" in err


def test_demo_writes_a_page_with_every_overlay(run, tmp_path):
    code, out, _ = run("demo", "--out", "shown")
    assert code == 0
    assert "24 images" in out
    page = (tmp_path / "shown" / "index.html").read_text()
    overlays = sorted((tmp_path / "shown" / "heatmaps").glob("*.png"))
    assert len(overlays) == 24
    assert all(f'src="heatmaps/{path.name}"' in page for path in overlays)
    assert "http" not in page.replace("http-equiv", ""), "the page needs no network"
