"""Predictions over HTTP, on this machine and in memory only.

In: requests with images. Out: JSON, overlays, a page for people.
Read first: ``app.py``, then ``predictions.py``. Needs the extra ``serve``.
"""

from pneumoscope.service.app import LOOPBACK, create_app
from pneumoscope.service.logs import log_requests_as_json
from pneumoscope.service.server import run

__all__ = ["LOOPBACK", "create_app", "log_requests_as_json", "run"]
