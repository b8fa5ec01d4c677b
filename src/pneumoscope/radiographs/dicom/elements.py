"""Walks through the elements of a DICOM file before pydicom reads them, within a budget, and finds where a file is cut.

The time and memory that pydicom needs grow with the number of elements and items, and with the length of the values
that are converted. A small file can hold millions of both, more so if it is deflated. So they are counted first.
The encoding is described in PS3.5, sections 7.1, 7.5 and A.4.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from pneumoscope.errors import ImageTooLarge, UnreadableImage

#: Elements, items and fragments in one file. Real radiographs have a few hundred.
MAX_ELEMENTS = 20_000
#: Sequences inside each other. Real radiographs have three or four.
MAX_DEPTH = 16
#: Bytes of a deflated data set that are inflated and counted before the rest.
_FIRST_BYTES = 4_000_000

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = b"1.2.840.10008.1.2.2"
_IMPLICIT = b"1.2.840.10008.1.2"
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # a length of 4 bytes (PS3.5, table 7.1-1)
_VRS = _LONG_VRS | frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


@dataclass(frozen=True)
class Layout:
    """Where the parts of a file are.

    Attributes:
        has_prefix: whether there is a preamble and ``DICM``.
        start: first byte of the data set, after the file meta information.
        syntax: transfer syntax, guessed from the first element where the file does not say; empty if it is unknown.
        is_guessed: whether it is guessed.
    """

    has_prefix: bool
    start: int
    syntax: bytes
    is_guessed: bool


def is_dicom(data: bytes) -> bool:
    """Whether bytes start like a DICOM file: a preamble of 128 bytes, then ``DICM`` (PS3.10, section 7.1).

    Older files start with the file meta information, or with the data set itself, and are recognized by their first
    element.
    """
    return data[128:132] == b"DICM" or _starts_with_element(data)


def read_layout(data: bytes) -> Layout:
    """Find the data set and its transfer syntax.

    Raises:
        UnreadableImage: the file meta information is cut off or cannot be followed.
    """
    has_prefix = data[128:132] == b"DICM"
    position, syntax = (132 if has_prefix else 0), b""
    while data[position : position + 2] == b"\2\0":  # the file meta information is always explicit, little-endian
        if len(data) < position + 8:
            raise _cut_off()
        head, length = _explicit_length(data, position, "<")
        value = data[position + head : position + head + length]
        if length == _UNDEFINED or len(value) < length:
            raise _cut_off()
        if data[position + 2 : position + 4] == b"\x10\0":
            syntax = value.strip(b"\0 ")
        position += head + length
    if len(data) < position + 8:
        raise _cut_off()
    return Layout(has_prefix, position, syntax or _guess_syntax(data, position), not syntax)


def inflate(data: bytes, layout: Layout, max_bytes: int, limits: Mapping[int, int]) -> bytes:
    """The data set of a file, inflated if it is deflated, once its elements are within the budget.

    Args:
        data: the whole file.
        layout: of the file.
        max_bytes: of the data set after decompression.
        limits: the longest value allowed, by tag, for the elements that are converted. A tag with the limit -1 is a
            sequence that is read.

    Raises:
        UnreadableImage: over the budget, damaged, or cut off.
        ImageTooLarge: more than ``max_bytes``.
    """
    if layout.syntax != _DEFLATED:
        check_elements(data, layout.start, layout.syntax == _BIG_ENDIAN, limits)
        return data
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(memoryview(data)[layout.start :], min(_FIRST_BYTES, max_bytes + 1))
        check_elements(inflated, 0, False, limits, is_part=not stream.eof)
        if not stream.eof and len(inflated) <= max_bytes:
            inflated += stream.decompress(stream.unconsumed_tail, max_bytes + 1 - len(inflated))
    except zlib.error:
        raise UnreadableImage(
            "expected a deflated DICOM data set, received one that cannot be inflated: export it again", code="damaged"
        ) from None
    if len(inflated) > max_bytes:
        raise ImageTooLarge(
            f"expected a DICOM data set of at most {max_bytes // 10**6} MB, received more: save it smaller"
        )
    if not stream.eof:
        raise _cut_off()
    check_elements(inflated, 0, False, limits)
    return inflated


@dataclass
class _Open:
    """A sequence, an item or the data set that the walk is in."""

    end: int  # _UNDEFINED if a delimiter ends it
    kind: str  # "items", "elements" or "fragments"
    is_implicit: bool | None = None  # None: not known before the first element


def check_elements(
    data: bytes, start: int, is_big_endian: bool, limits: Mapping[int, int], is_part: bool = False
) -> None:
    """Walk through all elements.

    Args:
        data: bytes that contain the data set, to their end.
        start: of the data set.
        is_big_endian: byte order.
        limits: see :func:`inflate`.
        is_part: whether more bytes follow, so that an early end is allowed.

    Raises:
        UnreadableImage: over the budget, damaged, or cut off.
    """
    order = ">" if is_big_endian else "<"
    read_tag, read_long = struct.Struct(order + "HH").unpack_from, struct.Struct(order + "I").unpack_from
    position, count, size = start, 0, len(data)
    stack = [_Open(_UNDEFINED if is_part else size, "elements")]
    while stack:
        top = stack[-1]
        if position >= top.end:
            stack.pop()
            continue
        if position + 8 > size:
            if is_part or (len(stack) == 1 and not any(data[position:])):  # zeros that fill a sector
                return
            raise _cut_off()
        count += 1
        if count > MAX_ELEMENTS:
            raise _too_many()
        group, element = read_tag(data, position)
        tag = group << 16 | element
        if tag in (_ITEM_END, _SEQUENCE_END):
            position += 8
            if len(stack) > 1 and top.end == _UNDEFINED:
                stack.pop()
            continue
        if tag == _ITEM and top.kind != "elements":
            (length,) = read_long(data, position + 4)
            position += 8
            if top.kind == "items":
                stack.append(_Open(_end(position, length, top, size, is_part), "elements", None))
            else:
                position = _end(position, length, top, size, is_part)
            continue
        if top.kind != "elements":
            raise _damaged()
        if top.is_implicit is None:
            top.is_implicit = data[position + 4 : position + 6] not in _VRS
        vr = b"" if top.is_implicit else data[position + 4 : position + 6]
        head, length = (
            (8, read_long(data, position + 4)[0]) if top.is_implicit else _explicit_length(data, position, order)
        )
        if head == 12 and position + 12 > size:
            if is_part:
                return
            raise _cut_off()
        position += head
        limit = limits.get(tag)
        if length == _UNDEFINED:
            is_pixels = tag == _PIXEL_DATA or vr in (b"OB", b"OW")
            stack.append(_Open(_UNDEFINED, "fragments" if is_pixels else "items"))
        elif vr == b"SQ" or limit == -1:
            stack.append(_Open(_end(position, length, top, size, is_part), "items"))
        else:
            if limit is not None and length > limit:
                raise _too_many()
            position = _end(position, length, top, size, is_part)
        if len(stack) > MAX_DEPTH:
            raise _too_many()


def _end(position: int, length: int, outer: _Open, size: int, is_part: bool) -> int:
    """The end of a value, which must lie inside the sequence or item around it and inside the file."""
    if length == _UNDEFINED:
        return _UNDEFINED
    end = position + length
    if end > size and not is_part:
        raise _cut_off()
    if outer.end != _UNDEFINED and end > outer.end:
        raise _damaged()
    return end


def _cut_off() -> UnreadableImage:
    return UnreadableImage(
        "expected a whole DICOM file, received one that is cut off: send or export it again", code="cut_off"
    )


def _too_many() -> UnreadableImage:
    return UnreadableImage(
        f"expected a DICOM header of at most {MAX_ELEMENTS:,} elements and items and {MAX_DEPTH} levels with short "
        "texts, received more: export the image again without private data",
        code="too_large",
    )


def _damaged() -> UnreadableImage:
    return UnreadableImage(
        "expected elements that follow one another, received a DICOM file with a damaged header: export it again",
        code="damaged",
    )


def _explicit_length(data: bytes, position: int, order: str) -> tuple[int, int]:
    """Bytes before the value, and bytes of the value, of an element whose VR is written."""
    if data[position + 4 : position + 6] in _LONG_VRS:
        if len(data) < position + 12:
            return 12, 0
        return 12, struct.unpack_from(order + "I", data, position + 8)[0]
    return 8, struct.unpack_from(order + "H", data, position + 6)[0]


def _starts_with_element(data: bytes) -> bool:
    """Whether bytes start with two plausible elements of group 2 or 8, in any of the three uncompressed encodings."""
    if len(data) < 132 or data[:2] not in (b"\2\0", b"\x08\0", b"\0\x08") or data[2:4] in (b"\xff\xff",):
        return False
    order = ">" if data[0] == 0 else "<"
    is_explicit = data[4:6] in _VRS
    if not is_explicit and (order == ">" or data[0] == 2):
        return False
    head, length = _explicit_length(data, 0, order) if is_explicit else (8, struct.unpack_from("<I", data, 4)[0])
    following = data[head + length : head + length + 4]
    if length > 1024 or len(following) < 4:
        return False
    (group, element), (group_1, element_1) = (
        struct.unpack(order + "HH", data[:4]),
        struct.unpack(order + "HH", following),
    )
    return group <= group_1 <= 0x0010 and (group, element) < (group_1, element_1)


def _guess_syntax(data: bytes, position: int) -> bytes:
    if data[position + 4 : position + 6] not in _VRS:
        return _IMPLICIT
    return _BIG_ENDIAN if data[position] == 0 else b"1.2.840.10008.1.2.1"
