"""Metrics on a part of the radiographs, by hand."""

import pytest

from pneumoscope.evaluation import against_ratio, subtype_auc
from pneumoscope.evaluation.subgroups import age_in_years, measure_subgroups
from pneumoscope.labels import BACTERIAL, LABELS, NORMAL, PNEUMONIA, VIRAL


def kind_row(sublabel, bacterial, patient="p", label=PNEUMONIA):
    return {"label": label, "sublabel": sublabel, "patient": patient, "bacterial": bacterial}


def test_the_area_of_bacterial_against_viral_by_hand():
    """Of 2 x 3 pairs, bacterial is higher in four and equal in one."""
    shares = [(BACTERIAL, 0.9), (BACTERIAL, 0.4), (VIRAL, 0.1), (VIRAL, 0.4), (VIRAL, 0.6)]
    rows = [
        kind_row(*pair, patient=f"{pair} {copy}") for pair in shares for copy in range(10)
    ]  # enough for an interval
    found = subtype_auc(rows)
    assert found["value"] == pytest.approx(4.5 / 6)
    assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    unknown = [kind_row("", 0.99, "u"), kind_row(BACTERIAL, None, "failed"), kind_row("", 0.5, "n", NORMAL)]
    assert subtype_auc([*unknown, *rows]) == found
    other = subtype_auc(rows, seed=1, resamples=50)
    assert other["value"] == found["value"]
    assert (other["low"], other["high"]) != (found["low"], found["high"])
    assert "50 resamples, seed 1" in other["method"]


def test_without_both_kinds_there_is_no_area():
    assert subtype_auc([]) is None
    assert subtype_auc([kind_row(BACTERIAL, 0.9), kind_row(BACTERIAL, 0.2)]) is None
    assert subtype_auc([kind_row(BACTERIAL, None), kind_row(VIRAL, None)]) is None
    assert subtype_auc([kind_row("", 0.9), kind_row("", 0.2)]) is None


def ratio_row(path, label, probability):
    return {"path": path, "label": label, "patient": path, "probability": probability}


def test_metrics_against_the_ratio_are_those_of_wide_normals_and_narrow_pneumonias():
    """The medians are 1.0 and 2.0, so the common ratio is 1.414. Some of each label are on the other side of it."""
    rows, ratios = [], {}
    for label, median in ((NORMAL, 1.0), (PNEUMONIA, 2.0)):
        for number in range(41):
            path = f"{label}{number}"
            ratios[path] = median * 1.05 ** (number - 20)
            against = (ratios[path] > 2**0.5) == (label == NORMAL)
            rows.append(
                ratio_row(path, label, float(against if label == NORMAL else not against))
            )  # always wrong on these
    found = against_ratio(rows, ratios)
    assert found["common"] == pytest.approx(2**0.5)
    assert found["normal"] == found["pneumonia"] == sum(1.05**n > 2**0.5 for n in range(-20, 21)) == 13
    assert found["roc_auc"]["value"] == 0
    assert found["roc_auc"]["n"] == 2 * found["normal"]


def test_metrics_against_the_ratio_need_known_ratios_of_both_labels():
    rows = [ratio_row(f"{label}{n}", label, 0.5) for label in LABELS for n in range(30)]
    assert against_ratio(rows, {}) is None
    assert against_ratio(rows, {row["path"]: 1.2 for row in rows if row["label"] == NORMAL}) is None
    assert against_ratio(rows, {row["path"]: 1.2 for row in rows}) is None  # no ratio is typical of the other label
    assert against_ratio([{**row, "probability": None} for row in rows], {row["path"]: 1.2 for row in rows}) is None


def judged(number, label, probability, **attributes):
    sublabel = BACTERIAL if label == PNEUMONIA else ""
    return {
        "path": f"{number}", "sha256": "", "label": label, "sublabel": sublabel, "patient": f"p{number // 2}",
        "probability": probability, "verdict": None, "status": "ok", "bacterial": None, **attributes,
    }  # fmt: skip


def test_the_figures_of_a_subgroup_are_those_of_its_images():
    rows = [
        judged(number, LABELS[number % 2], 0.9 if number % 2 and number < 30 else 0.1, sex="F" if number < 40 else "M")
        for number in range(80)
    ]
    found = {(group["attribute"], group["value"]): group for group in measure_subgroups(rows, 0.5, resamples=20)}
    assert list(found) == [("sex", "F"), ("sex", "M"), ("sub-type, with all NORMAL", "bacterial")]
    women = found["sex", "F"]
    assert (women["images"], women["patients"]) == (40, 20)
    assert women["sensitivity"]["value"] == 15 / 20
    assert women["specificity"]["value"] == 1
    assert found["sex", "M"]["sensitivity"]["value"] == 0


def test_ages_are_put_into_groups_in_their_order_and_rare_values_together():
    ages = ["66"] * 10 + ["004Y"] * 10 + ["11M"] * 10 + ["17"] * 3 + [""] * 2 + ["old"]
    rows = [judged(number, LABELS[number % 2], 0.5, age=age) for number, age in enumerate(ages)]
    groups = [group for group in measure_subgroups(rows, 0.5, resamples=20) if group["attribute"] == "age"]
    assert [(group["value"], group["images"]) for group in groups] == [
        ("under 1", 10), ("1 to 5", 10), ("65 and over", 10), ("other", 3), ("unknown", 3),
    ]  # fmt: skip


def test_an_attribute_with_one_value_or_with_many_makes_no_groups():
    rows = [judged(number, LABELS[number % 2], 0.5, site="A", room=f"{number // 10}") for number in range(150)]
    assert {group["attribute"] for group in measure_subgroups(rows, 0.5, resamples=20)} == {"sub-type, with all NORMAL"}


def test_a_subgroup_without_a_label_is_undefined():
    rows = [judged(number, LABELS[number % 2], 0.5, sex="FM"[number % 2]) for number in range(40)]
    groups = [group for group in measure_subgroups(rows, 0.5, resamples=20) if group["attribute"] == "sex"]
    assert [group["roc_auc"]["value"] for group in groups] == [None, None]
    assert groups[0]["sensitivity"]["value"] is None


@pytest.mark.parametrize(
    ("text", "years"), [("4", 4), ("004Y", 4), ("18M", 1.5), ("3,5", 3.5), ("", None), ("four", None), ("-1", None)]
)
def test_an_age_is_read_as_tables_and_headers_write_it(text, years):
    assert age_in_years(text) == years
