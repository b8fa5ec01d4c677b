"""Report in one sentence that Python is too old. This file runs on any Python 3."""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "expected Python 3.11 or newer, this is {}.{}: install it and run  make PYTHON=python3.11 ...".format(
            *sys.version_info
        )
    )
