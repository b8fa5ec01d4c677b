"""What is wrong with labelled radiographs before a model is trained on them.

In: a :class:`~pneumoscope.data.Manifest`. Out: ``audit.json`` and ``audit.html``.
Read first: ``audit.py``, the whole audit; then ``inspection.py`` (each file), ``faults.py`` (files and patients that
make figures wrong), ``shortcuts.py`` (what tells the labels apart without the lungs), ``page.py``.
"""

from pneumoscope.evaluation.audit.audit import audit_data
from pneumoscope.evaluation.audit.page import audit_html, render_audit

__all__ = ["audit_data", "audit_html", "render_audit"]
