"""The bytes of an image file: of a path, a member of an archive, or an address. Nothing is read without a limit."""

import os
import select
import stat
from pathlib import Path

from pneumoscope.errors import UnreadableImage
from pneumoscope.radiographs.remote import is_address, read_address
from pneumoscope.radiographs.zip_files import is_member_address, read_member_address

#: Bytes in one file: enough for a 16-bit PNG of 50 megapixels without compression.
MAX_BYTES = 100_000_000
#: Seconds that a pipe or device may send nothing.
MAX_WAIT = 10.0


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of an image file.

    At most :data:`MAX_BYTES` + 1 bytes are read, also from an endless device. So many are refused before decoding.

    Args:
        path: of the file, or its address, such as ``s3://bucket/chest.png`` (extra ``remote``).

    Raises:
        UnreadableImage: a folder, a missing file, or one that cannot be read.
    """
    if is_member_address(path):
        return read_member_address(path, MAX_BYTES)
    if is_address(path):
        return read_address(path, MAX_BYTES + 1)
    try:
        if Path(path).is_dir():
            raise UnreadableImage("expected an image file, received a folder: name the files in it")
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return _read_stream(file.fileno(), MAX_BYTES + 1)
            size = status.st_size  # read(n) allocates n bytes: ask for no more than the file has
            data = file.read(size + 1) if 0 < size < MAX_BYTES else b""
            if 0 < len(data) <= size:
                return data
            return data + file.read(MAX_BYTES + 1 - len(data))  # the file grew, or says 0 bytes as in /proc
    except FileNotFoundError:
        raise UnreadableImage(
            "expected an image file, found nothing under this name: check the path", code="not_found"
        ) from None
    except PermissionError:
        raise UnreadableImage(
            "expected a readable file, received 'permission denied': check its rights", code="permission"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = getattr(error, "strerror", None) or error
        raise UnreadableImage(f"expected a readable file, the system says {reason}: check the path") from None


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe is opened at once, even if nobody writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such pipes


def _read_stream(descriptor: int, limit: int) -> bytes:
    """Read a pipe or a device, at most ``limit`` bytes.

    Raises:
        UnreadableImage: nothing comes for :data:`MAX_WAIT` seconds.
    """
    data = bytearray()
    while len(data) < limit:
        if not select.select([descriptor], [], [], MAX_WAIT)[0]:
            raise UnreadableImage(
                f"expected an image file, received a pipe or device that sent nothing for {MAX_WAIT:.0f} seconds: "
                "name a file"
            )
        part = os.read(descriptor, min(2**20, limit - len(data)))
        if not part:
            break
        data += part
    return bytes(data)
