"""What a node says on standard error beside its own sentences: where an error of the program happened.

Messages of other libraries may contain patient data, so they are not repeated.
"""

import traceback
from pathlib import Path


def describe_error(error: BaseException) -> str:
    """Type and place of an error of the program, without its message.

    >>> describe_error(ValueError("Doe^Jane"))
    'ValueError'
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
