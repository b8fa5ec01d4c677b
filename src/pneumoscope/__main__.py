"""``python -m pneumoscope``."""

from pneumoscope.cli import main

main()
