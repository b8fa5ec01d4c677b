"""The body of a request -> image files in memory, one by one as they arrive. Nothing is written to disk."""

import logging
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import decode_rfc2231
from typing import TYPE_CHECKING
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pneumoscope.errors import ImageTooLarge, UsageError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # its warnings quote bytes of the body

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
                "expected at least one file in the form, received none: send images as files, under any field name",
                code="no_file",
            )
        return
    data = bytearray()
    async for chunk in chunks:
        _check_size(len(data) + len(chunk))
        reserve_bytes(len(chunk))
        data += chunk
    if not data:
        sentence = "expected an image as the body, or a form of files, received an empty body: send an image"
        raise UsageError(sentence, code="no_file")
    yield Upload("body", bytes(data))


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ImageTooLarge(f"expected a file of at most {MAX_FILE_BYTES // 10**6} MB, received more: save it smaller")


class _Form:
    """Collects the parts of a multipart form (RFC 7578) as its bytes arrive. Each part counts as a file."""

    def __init__(self, boundary: bytes, reserve_bytes: Callable[[int], None]) -> None:
        self._reserve_bytes = reserve_bytes
        self._file_count = 0
        self._header_bytes = 0
        self._complete: list[Upload] = []
        self._name = ""  # of the current part
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
            raise UsageError(
                "expected a boundary in the header Content-Type of the form, received none: send it", code="wrong_form"
            )
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError:
            sentence = "expected a boundary of at most 256 bytes, received a longer one: shorten it"
            raise UsageError(sentence, code="wrong_form") from None

    def feed(self, chunk: bytes) -> list[Upload]:
        """Take a chunk, and return the files that it completes."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            sentence = "expected a form as RFC 7578 describes it, received another: send files"
            raise UsageError(sentence, code="wrong_form") from None
        complete, self._complete = self._complete, []
        return complete

    def finish(self) -> None:
        """Check that the form is complete."""
        if not self._ended:
            raise UsageError("expected a whole form, received one that is cut off: send it again", code="wrong_form")

    def _begin(self) -> None:
        self._file_count += 1
        if self._file_count > MAX_FILES:
            sentence = f"expected at most {MAX_FILES} files a request, received more: send them in parts"
            raise UsageError(sentence, code="too_many_files")
        self._name, self._data = f"part {self._file_count}", bytearray()
        self._field, self._value = b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header_bytes(end - start)
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header_bytes(end - start)
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._name = _part_name(self._value) or self._name
        self._field, self._value = b"", b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        _check_size(len(self._data) + end - start)
        self._reserve_bytes(end - start)
        self._data += data[start:end]

    def _part_end(self) -> None:
        self._complete.append(Upload(self._name, bytes(self._data)))
        self._data = bytearray()

    def _end(self) -> None:
        self._ended = True

    def _count_header_bytes(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_HEADER_BYTES * MAX_FILES:
            sentence = "expected images as files of the form, received long headers: send files alone"
            raise UsageError(sentence, code="wrong_form")


def _part_name(disposition: bytes) -> str:
    """The name of a part by its header: of the file, in either notation, or else of the field."""
    options = parse_options_header(disposition)[1]
    name = options.get(b"filename", b"").decode("utf-8", "replace")
    if not name:
        # filename*=charset'language'name; RFC 7578 forbids it, but some programs send it. The parser leaves it out.
        extended = re.search(rb";\s*filename\*\s*=\s*\"?([^;\"]+)", disposition, re.IGNORECASE)
        charset, _, text = decode_rfc2231(extended[1].decode("latin-1")) if extended else (None, None, "")
        name = _unquote(text, charset or "utf-8")
    name = name or options.get(b"name", b"").decode("utf-8", "replace")
    return name[:_MAX_NAME]


def _unquote(text: str, charset: str) -> str:
    try:
        return unquote(text, charset, "replace")
    except LookupError:  # a character set that does not exist
        return unquote(text, "utf-8", "replace")
