"""The body of a request -> image files in memory, one by one as they arrive. Nothing is written to disk."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pneumoscope.errors import ImageTooLarge, UsageError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: Bytes of one file, and files of one request.
MAX_FILE_BYTES, MAX_FILES = 20_000_000, 64
#: Bytes of the form without its files; characters of a file name, whose rest is cut off.
_MAX_HEADER_BYTES, _MAX_NAME = 8_192, 255


@dataclass(frozen=True)
class Upload:
    """One file of a request: its name, as the client sent it, and its bytes."""

    name: str
    data: bytes


async def read_uploads(
    content_type: str, chunks: AsyncIterator[bytes], reserve_bytes: Callable[[int], None]
) -> AsyncIterator[Upload]:
    """The files of a request: those of a form, or the body itself.

    Args:
        content_type: header of the request.
        chunks: pieces of the body.
        reserve_bytes: called with the number of bytes before they are kept; may raise an error to refuse them.

    Yields:
        Each file when it is complete.

    Raises:
        UsageError: no file, too many files, or a form that cannot be read.
        ImageTooLarge: a file of more than :data:`MAX_FILE_BYTES`.
    """
    kind, options = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        form, number = _Form(options.get(b"boundary", b""), reserve_bytes), 0
        async for chunk in chunks:
            for upload in form.feed(chunk):
                number += 1
                yield upload
        form.finish()
        if not number:
            raise UsageError(
                "expected at least one file in the form, received none: send images as files, under any field name"
            )
        return
    data = bytearray()
    async for chunk in chunks:
        _check_size(len(data) + len(chunk))
        reserve_bytes(len(chunk))
        data += chunk
    if not data:
        raise UsageError("expected an image as the body, or a form of files, received an empty body: send an image")
    yield Upload("body", bytes(data))


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ImageTooLarge(f"expected a file of at most {MAX_FILE_BYTES // 10**6} MB, received more: save it smaller")


class _Form:
    """Collects the files of a multipart form (RFC 7578) as its bytes arrive."""

    def __init__(self, boundary: bytes, reserve_bytes: Callable[[int], None]) -> None:
        self._reserve_bytes = reserve_bytes
        self._file_count = 0
        self._header_bytes = 0
        self._complete: list[Upload] = []
        self._name: str | None = None  # of the current file; None between files and for plain fields
        self._ended = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }
        if not boundary:
            raise UsageError("expected a boundary in the header Content-Type of the form, received none: send it")
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError:
            raise UsageError("expected a boundary of at most 256 bytes, received a longer one: shorten it") from None

    def feed(self, chunk: bytes) -> list[Upload]:
        """Take a chunk, and return the files that it completes."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise UsageError("expected a form as RFC 7578 describes it, received another: send files") from None
        complete, self._complete = self._complete, []
        return complete

    def finish(self) -> None:
        """Check that the form is complete."""
        if not self._ended:
            raise UsageError("expected a whole form, received one that is cut off: send it again")

    def _begin(self) -> None:
        self._name, self._data = None, bytearray()
        self._field, self._value = b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header_bytes(end - start)
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header_bytes(end - start)
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            name = parse_options_header(self._value)[1].get(b"filename")
            if name is not None:
                self._file_count += 1
                if self._file_count > MAX_FILES:
                    raise UsageError(f"expected at most {MAX_FILES} files a request, received more: send them in parts")
                self._name = name.decode("utf-8", "replace")[:_MAX_NAME]
        self._field, self._value = b"", b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            self._count_header_bytes(end - start)
            return
        _check_size(len(self._data) + end - start)
        self._reserve_bytes(end - start)
        self._data += data[start:end]

    def _part_end(self) -> None:
        if self._name is not None:
            self._complete.append(Upload(self._name, bytes(self._data)))
        self._name, self._data = None, bytearray()

    def _end(self) -> None:
        self._ended = True

    def _count_header_bytes(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_HEADER_BYTES * MAX_FILES:
            raise UsageError("expected images as files of the form, received long fields: send files alone")
