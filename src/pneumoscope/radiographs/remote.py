"""Images at addresses, such as ``s3://bucket/chest.png``, through fsspec (extra ``remote``): list, read, compare.

An address is passed to fsspec unchanged. An address that cannot be read is one unreadable image; the batch continues.
Whatever a web server says it sends, at most :data:`LISTING_BYTES` of a page are read to find images in it, and a server
that is silent is not waited for.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, TypeGuard

from pneumoscope.errors import MissingExtra, UnreadableImage, UsageError
from pneumoscope.radiographs.zip_files import is_member_address, split_address

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_READ_BYTES = 2**20
#: A web page with more bytes is no listing of a folder.
LISTING_BYTES = 10_000_000
#: A web server that sends nothing for so long is given up; one that sends little, after five minutes (aiohttp).
SILENT_SECONDS = 30.0


def is_address(source: object) -> TypeGuard[str]:
    """Whether a source is an address and not a path.

    >>> is_address("s3://bucket/a.png"), is_address("chest/a.png"), is_address("C:/a.png")
    (True, False, False)
    """
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def read_address(address: str, limit: int) -> bytes:
    """Read the file at an address, at most ``limit`` bytes, however much the server sends.

    Raises:
        UnreadableImage: missing, or it cannot be read.
    """
    data = bytearray()
    with _errors_as_unreadable_image(), open_address(address) as file:
        while len(data) < limit and (part := file.read(min(_READ_BYTES, limit - len(data)))):
            data += part  # a stream may return fewer bytes than requested
    return bytes(data)


def open_address(address: str) -> IO[bytes]:
    """Open the file at an address. Its errors are those of the file system that fsspec uses."""
    file_system = _file_system(address)
    # block_size=0 reads HTTP as one stream. Blocks would need a server that supports range requests.
    file: IO[bytes] = file_system.open(address, "rb", **({"block_size": 0} if _is_http(address) else {}))
    return file


def list_address(address: str) -> list[str] | None:
    """The addresses in a folder, or those that match a pattern (``*``, ``[``), sorted; None if it is a single file.

    Raises:
        UnreadableImage: it cannot be listed.
    """
    file_system = _file_system(address)
    with _errors_as_unreadable_image():
        if "*" in address or "[" in address:
            names = file_system.glob(address)
        elif file_system.isdir(address):
            names = file_system.find(address)
        else:
            return None
        return sorted(file_system.unstrip_protocol(name) for name in names)


def stamp_address(address: str) -> str:
    """A text that changes when the file at an address changes: its size, and its tag or time; empty if unknown."""
    try:
        with _errors_as_unreadable_image():
            if is_member_address(address):
                status = split_address(address)[1].stat()
                return f"{status.st_size} {status.st_mtime_ns}"
            details = _file_system(address).info(address)
    except UnreadableImage:
        return ""
    versions = (details.get(name) for name in ("ETag", "etag", "LastModified", "last_modified", "mtime"))
    return f"{details.get('size')} {next((version for version in versions if version), '')}"


def _file_system(address: str) -> Any:
    """The fsspec file system of an address. fsspec keeps one for each scheme, with its connections."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtra(f"reading {_scheme(address)}", "remote", error.name or "fsspec") from None
    try:
        return fsspec.core.url_to_fs(address, **({"get_client": _web_client} if _is_http(address) else {}))[0]
    except ImportError as error:  # the message of fsspec names the missing package
        if _is_http(address):
            raise MissingExtra(f"reading {_scheme(address)}", "remote", "aiohttp") from None
        raise UsageError(f"expected a package that reads {_scheme(address)}, fsspec says: {error}") from None
    except ValueError as error:
        raise UnreadableImage(f"expected an address that fsspec supports, it says: {error}") from None


class _NoListing(Exception):
    """A page is too long to be a listing. It is no ValueError, which fsspec takes for a page without links."""


async def _web_client(**options: Any) -> Any:
    """A client for web servers whose pages are bounded. fsspec reads a page as text to find the links in it."""
    import aiohttp

    class BoundedResponse(aiohttp.ClientResponse):
        async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
            page = bytearray()
            async for part in self.content.iter_chunked(2**16):
                page += part
                if len(page) > LISTING_BYTES:
                    self.close()
                    if self.content_type == "text/html":
                        raise _NoListing(f"a page of more than {LISTING_BYTES // 10**6} MB, which is no listing")
                    break  # a file without a type: what was read has no links
            return page.decode(encoding or self.charset or "utf-8", errors)

    timeout = aiohttp.ClientTimeout(total=300, sock_connect=SILENT_SECONDS, sock_read=SILENT_SECONDS)
    return aiohttp.ClientSession(response_class=BoundedResponse, timeout=timeout, **options)


def _is_http(address: str) -> bool:
    return address.lower().startswith(("http:", "https:"))


def _scheme(address: str) -> str:
    return address.partition("//")[0] + "//"


@contextmanager
def _errors_as_unreadable_image() -> Iterator[None]:
    """Turn every error of a file system into ours. Each file system has its own errors, without a common base class."""
    try:
        yield
    except (UnreadableImage, UsageError):
        raise
    except FileNotFoundError:
        raise UnreadableImage(
            "expected an image file, found nothing at this address: check it", code="not_found"
        ) from None
    except PermissionError:
        raise UnreadableImage(
            "expected a readable file, received 'permission denied': check its rights", code="permission"
        ) from None
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnreadableImage(f"expected a file to read at this address, received {reason}: try again") from None
