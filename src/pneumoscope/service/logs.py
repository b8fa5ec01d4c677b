"""The log of the service as JSON: one object on a line of standard error, for each request and each event.

It has no names of files, no paths as a client wrote them and no addresses of clients.
"""

import datetime
import json
import logging
import sys


def log_requests_as_json() -> logging.Logger:
    """Write everything that is logged as JSON from now on.

    Returns:
        The logger of the requests.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    requests = logging.getLogger("pneumoscope.requests")
    requests.setLevel(logging.INFO)
    return requests


class _JsonFormatter(logging.Formatter):
    """A record as one line of ASCII; ``fields`` of the record become keys."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        fields: dict[str, object] = getattr(record, "fields", {})
        content = {"time": time, "level": record.levelname.lower(), "event": record.getMessage(), **fields}
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content)
