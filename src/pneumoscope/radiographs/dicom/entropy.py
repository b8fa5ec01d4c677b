"""Whether the entropy-coded data of a JPEG holds exactly the samples that its header announces.

libjpeg-turbo warns when data is missing or left over, but its Python binding for 12 and 16 bits does not pass the
warnings on. So the code words of a scan are counted here (ITU-T T.81, annexes F.1.2, F.2.2 and H). A changed byte
usually moves the boundaries of the code words, and then their number is wrong or the last one ends early or late.
"""

import re
import struct
from collections.abc import Iterator

import numpy as np

from pneumoscope.radiographs.codestream import is_frame_marker, jpeg_segments

_LOSSLESS, _SEQUENTIAL = 0xC3, (0xC0, 0xC1)
_BYTES_AT_ONCE = 1 << 18
#: The longest code word (16 bits) with the longest value (16 bits).
_LONGEST = 32
#: The longest block of 64 coefficients, in bits.
_LONGEST_BLOCK = 64 * _LONGEST


def has_whole_scan(frame: bytes) -> bool:
    """Whether the one scan of a gray JPEG, lossless or sequential with Huffman codes, is complete.

    Args:
        frame: the file or frame.

    Returns:
        False if code words are missing, left over or unknown, and for other kinds of JPEG.
    """
    tables: dict[int, tuple[bytes, bytes]] = {}
    marker = rows = columns = interval = components = selector = scan = 0
    for kind, start, end in jpeg_segments(frame):
        content = frame[start:end]
        if kind == 0xC4:
            tables.update(_huffman_tables(content))
        elif kind == 0xDD and len(content) >= 2:
            (interval,) = struct.unpack(">H", content[:2])
        elif is_frame_marker(kind) and len(content) >= 6:
            marker = kind
            _, rows, columns, components = struct.unpack(">BHHB", content[:6])
        elif kind == 0xDA and len(content) >= 3:
            selector, scan = content[2], end
    if not scan or components != 1 or marker not in (_LOSSLESS, *_SEQUENTIAL):
        return False
    units = rows * columns if marker == _LOSSLESS else -(-rows // 8) * -(-columns // 8)
    parts = _scan_parts(frame, scan)
    counts = [min(interval or units, units - first) for first in range(0, units, interval or units)]
    dc_table, ac_table = tables.get(selector >> 4), tables.get(0x10 | selector & 15)
    if parts is None or len(parts) != len(counts) or dc_table is None:
        return False
    if marker == _LOSSLESS:
        steps = _code_steps(dc_table)
        return all(_has_samples(part, count, steps) for part, count in zip(parts, counts, strict=True))
    if ac_table is None:
        return False
    codes = _code_steps(dc_table), _code_steps(ac_table, 0x0F), _coefficient_steps(ac_table)
    return all(_has_blocks(part, count, *codes) for part, count in zip(parts, counts, strict=True))


def _huffman_tables(content: bytes) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    """Class and number -> code words of each length, and their symbols (T.81, B.2.4.2)."""
    position = 0
    while position + 17 <= len(content):
        lengths = content[position + 1 : position + 17]
        yield content[position], (lengths, content[position + 17 : position + 17 + sum(lengths)])
        position += 17 + sum(lengths)


def _scan_parts(frame: bytes, start: int) -> list[bytes] | None:
    """The entropy-coded bytes between restart markers; None unless the markers count up and end of image follows."""
    parts: list[bytes] = []
    for match in re.compile(rb"\xff+([^\x00\xff])").finditer(frame, start):
        parts.append(frame[start : match.start()].replace(b"\xff\0", b"\xff"))
        start, code = match.end(), match[1][0]
        if code == 0xD9:
            return parts
        if code != 0xD0 + (len(parts) - 1) % 8:
            break
    return None


def _windows(table: tuple[bytes, bytes]) -> Iterator[tuple[slice, int, int]]:
    """For each code word: the 16-bit numbers that start with it, its length and its symbol (T.81, annex C)."""
    code, index = 0, 0
    lengths, symbols = table
    for length, count in enumerate(lengths, 1):
        for _ in range(count):
            if index >= len(symbols) or code >= 1 << length:
                return
            yield slice(code << (16 - length), (code + 1) << (16 - length)), length, symbols[index]
            code, index = code + 1, index + 1
        code <<= 1


def _code_steps(table: tuple[bytes, bytes], mask: int = 0xFF) -> np.ndarray:
    """(65536,) uint8: bits of the code word and its value at the start of a 16-bit number; 0 for an unknown code word.

    Args:
        table: lengths and symbols.
        mask: the bits of a symbol that say how many bits follow. 16 bits are never written (T.81, H.1.2.2).
    """
    steps = np.zeros(1 << 16, np.uint8)
    for window, length, symbol in _windows(table):
        bits = symbol & mask
        steps[window] = length + (bits if bits < 16 else 0) if bits <= 16 else 0
    return steps


def _coefficient_steps(table: tuple[bytes, bytes]) -> np.ndarray:
    """(65536,) uint8: coefficients that a code word stands for; 0: end of block; 99: unknown code word."""
    steps = np.full(1 << 16, 99, np.uint8)
    for window, _, symbol in _windows(table):
        run, bits = symbol >> 4, symbol & 15
        steps[window] = 0 if symbol == 0 else run + 1 if bits or run == 15 else 99
    return steps


def _at_each_bit(data: bytes, first: int, *tables: np.ndarray) -> list[bytes]:
    """The entry of each table for the 16 bits from each bit on, from byte ``first`` on."""
    part = np.frombuffer(data[first : first + _BYTES_AT_ONCE + 2].ljust(_BYTES_AT_ONCE + 2, b"\xff"), np.uint8)
    part = part[: max(0, len(data) - first) + 2 + _LONGEST]
    single = part.astype(np.uint32)
    words: np.ndarray = single[:-2] << 16 | single[1:-1] << 8 | single[2:]  # 24 bits from each byte on
    results = [np.empty((len(words), 8), np.uint8) for _ in tables]
    for shift in range(8):
        numbers = words >> (8 - shift) & 0xFFFF
        for result, table in zip(results, tables, strict=True):
            result[:, shift] = table[numbers]
    return [result.tobytes() for result in results]


def _is_end(position: int, data: bytes) -> bool:
    """Whether only the bits that fill the last byte are left: ones (T.81, F.1.2.3), or zeros by some encoders."""
    left = 8 * len(data) - position
    return left == 0 or (0 < left < 8 and data[-1] & (1 << left) - 1 in (0, (1 << left) - 1))


def _has_samples(data: bytes, count: int, table: np.ndarray) -> bool:
    position = 0
    is_dense = count > 2 * len(data)  # short code words: four of them at once are faster
    while count:
        first = position // 8
        (single,) = _at_each_bit(data, first, table)
        position -= 8 * first
        for steps, group in ((_four_at_once(single), 4), (single, 1)) if is_dense else ((single, 1),):
            longest = group * _LONGEST
            while count > group and (safe := (len(steps) - longest - position) // longest) > 0:
                safe = min(safe, (count - 1) // group)  # the last code word comes below
                for _ in range(safe):  # so many code words fit for certain: no test for the end is needed
                    position += steps[position]
                count -= safe * group
                if not steps[position]:
                    return False
        if count == 1:
            if not single[position]:  # the bits that fill the last byte are no code word
                return False
            count, position = 0, position + single[position]
        position += 8 * first
        if position > 8 * len(data) + 8 or (count and position // 8 == first):
            return False
    return _is_end(position, data)


def _four_at_once(single: bytes) -> bytes:
    """The steps of four code words together; 0 where the first one is unknown."""
    steps = np.frombuffer(single, np.uint8)
    for _ in range(2):
        following = np.minimum(np.arange(len(steps)) + steps, len(steps) - 1)
        steps = steps + steps[following]
    return steps.tobytes()


def _has_blocks(data: bytes, count: int, dc_table: np.ndarray, ac_table: np.ndarray, run_table: np.ndarray) -> bool:
    position = 0
    while count:
        first = position // 8
        dc_steps, ac_steps, runs = _at_each_bit(data, first, dc_table, ac_table, run_table)
        position -= 8 * first
        limit = len(dc_steps) - (_LONGEST_BLOCK if first + _BYTES_AT_ONCE < len(data) else 2 * _LONGEST)
        start = position
        while count and position < limit:
            if not dc_steps[position]:
                return False
            position += dc_steps[position]
            coefficient = 1
            while coefficient < 64:
                if position >= len(runs):
                    return False
                run = runs[position]
                position += ac_steps[position]
                if not run:
                    break
                coefficient += run
            if coefficient > 64:
                return False
            count -= 1
        if position == start and count:
            return False
        position += 8 * first
    return _is_end(position, data)
