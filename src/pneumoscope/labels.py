"""The class order, and what the classes are called: the only place that knows."""

#: Whom the models know: said by the help, the reports and the documents.
SCOPE = (
    "The models know frontal chest radiographs of children of one to five years from one hospital; "
    "adults are out of scope."
)

NORMAL = "NORMAL"
PNEUMONIA = "PNEUMONIA"

#: Order of the class axis in every array, model output and report.
LABELS = (NORMAL, PNEUMONIA)

#: Column of ``PNEUMONIA``, the positive class: "probability" without a name means this column.
POSITIVE = LABELS.index(PNEUMONIA)

# Sub-labels of pneumonia that the Kermany file names carry.
BACTERIAL = "bacterial"
VIRAL = "viral"

#: Classes of a network that tells bacterial from viral pneumonia; the last two together are PNEUMONIA.
FINDINGS = (NORMAL, BACTERIAL, VIRAL)


def label_index(label: str) -> int:
    """Column of a label in the class axis.

    >>> label_index("PNEUMONIA")
    1

    Raises:
        ValueError: for anything but one of :data:`LABELS`.
    """
    if label not in LABELS:
        raise ValueError(f"expected one of {', '.join(LABELS)}, received {label!r}")
    return LABELS.index(label)
