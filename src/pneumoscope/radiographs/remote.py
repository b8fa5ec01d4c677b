"""Images at addresses, such as ``s3://bucket/chest.png``: listed, read and dated through fsspec (extra ``remote``).

An address is handed on as it is given. What fsspec cannot reach is one unreadable image, never the end of a batch.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pneumoscope.errors import MissingExtra, UnreadableImage, UsageError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_PIECE = 2**20


def is_address(source: object) -> bool:
    """Whether a source lies elsewhere than under a path.

    >>> is_address("s3://bucket/a.png"), is_address("chest/a.png"), is_address("C:/a.png")
    (True, False, False)
    """
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def read_address(address: str, limit: int) -> bytes:
    """At most ``limit`` bytes of what lies at an address, however much the other side sends.

    Raises:
        UnreadableImage: not there, not to be read, or not reached.
    """
    data = bytearray()
    with _plain_errors(), open_address(address) as file:
        while len(data) < limit and (piece := file.read(min(_PIECE, limit - len(data)))):
            data += piece  # a stream gives what has arrived, not what was asked for
    return bytes(data)


def open_address(address: str):
    """A file object for what lies at an address; its errors are those of the file system behind it."""
    system = _system(address)
    # Without blocks HTTP is one stream: a block would need a server that takes requests for ranges.
    return system.open(address, "rb", **({"block_size": 0} if _is_http(address) else {}))


def list_address(address: str) -> list[str] | None:
    """The addresses below a folder or matching a pattern (``*``, ``[``), sorted; None for that of a file.

    Raises:
        UnreadableImage: not reached.
    """
    system = _system(address)
    with _plain_errors():
        if "*" in address or "[" in address:
            names = system.glob(address)
        elif system.isdir(address):
            names = system.find(address)
        else:
            return None
        return sorted(system.unstrip_protocol(name) for name in names)


def stamp_address(address: str) -> str:
    """Size, and tag or time of change, of what lies at an address; empty where nothing is known."""
    try:
        with _plain_errors():
            known = _system(address).info(address)
    except UnreadableImage:
        return ""
    marks = (known.get(name) for name in ("ETag", "etag", "LastModified", "last_modified", "mtime"))
    return f"{known.get('size')} {next((mark for mark in marks if mark), '')}"


def _system(address: str):
    """The file system of an address; fsspec keeps one for each kind, with its connections."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtra(f"reading {_kind(address)}", "remote", error.name or "fsspec") from None
    try:
        return fsspec.core.url_to_fs(address)[0]
    except ImportError as error:  # fsspec's sentence names the package
        if _is_http(address):
            raise MissingExtra(f"reading {_kind(address)}", "remote", "aiohttp") from None
        raise UsageError(f"expected a package that reads {_kind(address)}, fsspec says: {error}") from None
    except ValueError as error:
        raise UnreadableImage(f"expected an address that fsspec knows, it says: {error}") from None


def _is_http(address: str) -> bool:
    return address.lower().startswith(("http:", "https:"))


def _kind(address: str) -> str:
    return address.partition("//")[0] + "//"


@contextmanager
def _plain_errors() -> Iterator[None]:
    """The errors of every file system as ours; each has its own, and they share no base class."""
    try:
        yield
    except (UnreadableImage, UsageError):
        raise
    except FileNotFoundError:
        raise UnreadableImage("expected an image file, found nothing at this address: check it") from None
    except PermissionError:
        raise UnreadableImage("expected a readable file, received 'permission denied': check its rights") from None
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnreadableImage(f"expected a file to read at this address, it answers {reason}: try again") from None
