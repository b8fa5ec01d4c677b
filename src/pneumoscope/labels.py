"""Names and order of the classes. No other module defines them."""

#: The patients that the models were trained on; printed in the help, the reports and the documents.
SCOPE = (
    "The models know frontal chest radiographs of children of one to five years from one hospital; "
    "adults are out of scope."
)

NORMAL = "NORMAL"
PNEUMONIA = "PNEUMONIA"

#: Order of the class axis in every array, model output and report.
LABELS = (NORMAL, PNEUMONIA)

#: Column of ``PNEUMONIA``, the positive class. "probability" without a class name means this column.
POSITIVE = LABELS.index(PNEUMONIA)

# Kinds of pneumonia, from the file names of the Kermany data.
BACTERIAL = "bacterial"
VIRAL = "viral"

#: Classes of a network that separates bacterial from viral pneumonia. The last two together are PNEUMONIA.
FINDINGS = (NORMAL, BACTERIAL, VIRAL)


def label_index(label: str) -> int:
    """Column of a label in the class axis.

    >>> label_index("PNEUMONIA")
    1

    Raises:
        ValueError: not one of :data:`LABELS`.
    """
    if label not in LABELS:
        raise ValueError(f"expected one of {', '.join(LABELS)}, received {label!r}")
    return LABELS.index(label)
