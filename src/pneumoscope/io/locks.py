"""Locks on open files, so that two processes do not write the same results or the same run.

A lock ends when its file is closed or its process ends, however it ends. Some file systems have no locks (NFS without
its lock service, some containers), and Windows has others: there the work goes on without one.
"""

import errno
from pathlib import Path
from typing import IO, Any

# What systems without locks answer; on Linux these are 37, 38 and 95.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


def lock_file(file: IO[Any], path: Path, *, wait: bool = False) -> None:
    """Lock an open file until it is closed; where there are no locks, say so in the log and go on.

    Args:
        file: open, for reading or writing.
        path: its name, for the note.
        wait: wait for a process that has the lock, instead of giving up.

    Raises:
        BlockingIOError: another process has the lock.
        OSError: the file cannot be locked for another reason.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        import logging  # here, as every command needs this module, and few meet such a place

        message = "note: there are no locks at %s (%s), so make sure that no other process writes there"
        logging.getLogger(__name__).warning(message, path, error.strerror)
