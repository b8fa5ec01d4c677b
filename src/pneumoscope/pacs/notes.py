"""How a node speaks on standard error: nothing too often, and errors of the program without their messages.

The messages of other libraries may contain patient data.
"""

import threading
import time
import traceback
from pathlib import Path

#: Seconds between two sentences about the same thing.
INTERVAL = 60.0
#: Things that are spoken of in this time; a peer cannot fill the log with names.
MAX_SUBJECTS = 50


class Limiter:
    """Lets a sentence about the same thing through once in :data:`INTERVAL`."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._said: dict[str, float] = {}

    def allows(self, subject: str) -> bool:
        """Whether to speak about something now; it is then noted.

        >>> limiter = Limiter()
        >>> limiter.allows("MODALITY"), limiter.allows("MODALITY"), limiter.allows("ROUTER")
        (True, False, True)
        """
        now = time.monotonic()
        with self._guard:
            self._said = {each: moment for each, moment in self._said.items() if now - moment < INTERVAL}
            if subject in self._said or len(self._said) >= MAX_SUBJECTS:
                return False
            self._said[subject] = now
            return True


def describe_error(error: BaseException) -> str:
    """Type and place of an error of the program, without its message.

    >>> describe_error(ValueError("Doe^Jane"))
    'ValueError'
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
