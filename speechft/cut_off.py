"""Whether a recording is only the beginning of one: its download, copy or conversion stopped before its end.

Decoders read what is there of a wav, ogg, mp3 or webm file without a word. Most formats say how long the whole is, or
mark its last part; here that is compared with what the file holds, from a few bytes of it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

CUT_ADVICE = "Copy the file again from where it came; until then, only what is there of it is used."
LEAST, SHARE = 1024, 0.01  # bytes, and of a file: headers may be wrong by the larger of them
TAIL = 1 << 17  # bytes: two of ogg's longest pages, and several frames of any other format
MOST_BOXES = 100_000  # of an m4a file; one that was recorded in fragments has a few each second
STREAMED = 0x7FFF_FFFF  # as a wav's size: it was never filled in

_KBITS = {  # of mp3's layer III, by whether it is MPEG 1
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by the version's two bits


def cut_off(path: Path) -> str:
    """What shows that a recording is cut off, such as `is cut off: ...`; empty where nothing does.

    Args:
        path: a file that exists; what cannot be read is not judged.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            missing = _missing(file, size)
    except (OSError, ValueError, IndexError):
        return ""
    return f"is cut off: {missing}" if missing else ""


def _missing(file: BinaryIO, size: int) -> str:
    head = file.read(64)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        stated = int.from_bytes(head[4:8], "little") + 8
        return _bytes(stated, size) if stated < STREAMED else ""
    if head[:4] == b"OggS":
        return _of_ogg(file, size)
    if head[:4] == b"fLaC":
        return _of_flac(file, size, head)
    if head[4:8] == b"ftyp":
        return _of_mp4(file, size)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _of_webm(file, size)
    return _of_mp3(file, size, head)


def _bytes(stated: int, there: int) -> str:
    missing = stated - there
    return f"{missing:,} bytes that its header names are not there" if missing > max(LEAST, SHARE * there) else ""


def _tail(file: BinaryIO, size: int) -> bytes:
    file.seek(max(0, size - TAIL))
    return file.read()


def _of_ogg(file: BinaryIO, size: int) -> str:
    """The last page is marked, and says how long it is."""
    tail = _tail(file, size)
    start = tail.rfind(b"OggS")
    page = tail[start:]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    whole = len(page) > 26 and len(page) >= 27 + page[26] + sum(lengths)
    return "" if start >= 0 and whole and page[5] & 4 else "its last page is not there"


def _of_flac(file: BinaryIO, size: int, head: bytes) -> str:
    """Its header has the number of samples, and that of each frame where it begins."""
    total = int.from_bytes(head[21:26], "big") & 0xF_FFFF_FFFF
    block = int.from_bytes(head[8:10], "big")
    tail = _tail(file, size)
    place = len(tail)
    while total and (place := tail.rfind(b"\xff", 0, place)) >= 0:
        end = _flac_frame_end(tail[place : place + 16], block)
        if end:
            return f"{total - end:,} of its {total:,} samples are not there" if end < total else ""
    return ""


def _flac_frame_end(header: bytes, block: int) -> int:
    """The number of the first sample after a frame; 0 where no frame begins here."""
    if len(header) < 6 or header[1] & 0xFE != 0xF8 or header[3] & 1:
        return 0
    more = 0 if header[4] < 0x80 else 8 - (header[4] ^ 0xFF).bit_length() - 1  # bytes of its number, as in UTF-8
    number = header[4] if not more else header[4] & (0x3F >> more)
    for byte in header[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    place, code = 5 + more, header[2] >> 4
    own = {6: 1, 7: 2}.get(code, 0)
    length = 1 + int.from_bytes(header[place : place + own], "big") if own else _flac_block(code)
    place += own + {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
    if place >= len(header) or _crc8(header[:place]) != header[place] or not length:
        return 0
    return (number if header[1] & 1 else number * block) + length


def _flac_block(code: int) -> int:
    if code == 1:
        return 192
    return 576 << (code - 2) if 2 <= code <= 5 else 256 << (code - 8) if code >= 8 else 0


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value << 1 ^ (0x107 if value & 0x80 else 0)
    return value


def _of_mp4(file: BinaryIO, size: int) -> str:
    """Boxes that each say how long they are, one after the other."""
    place = 0
    for _ in range(MOST_BOXES):
        if place >= size:
            break
        file.seek(place)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: to the end of the file
            return ""
        place += length
    return f"{place - size:,} bytes that its parts name are not there" if place > size else ""


def _of_webm(file: BinaryIO, size: int) -> str:
    """One long element after the header; what browsers record leaves its length open."""
    file.seek(4)
    start = _vint(file)
    file.seek((start or 0) + file.tell())
    if start is None or file.read(4) != b"\x18\x53\x80\x67":
        return ""
    length = _vint(file)
    return "" if length is None else _bytes(file.tell() + length, size)


def _vint(file: BinaryIO) -> int | None:
    """A number of EBML; None where it is left open."""
    first = file.read(1)[0]
    more = 8 - first.bit_length()
    number = int.from_bytes(bytes([first & (0x7F >> more)]) + file.read(more), "big")
    return None if number == (1 << 7 * (more + 1)) - 1 else number


def _of_mp3(file: BinaryIO, size: int, head: bytes) -> str:
    """The first frame may say how many bytes all are; else the last must be whole."""
    start = _after_id3(head)
    if found := _xing_bytes(file, start):
        return _bytes(start + found[1], size)
    file.seek(start)
    if not _frame_length(file.read(4)):
        return ""
    tail = _tail(file, size)
    for first in range(max(0, len(tail) - 8192), len(tail) - 4):
        *_, last = [first, *_chain(tail, first)]
        if last - first > 2000 and last > len(tail):  # several frames that follow each other, and the last goes on
            return "its last frame is not whole"
        if last - first > 2000:
            return ""
    return ""


def _after_id3(head: bytes) -> int:
    """Where the first frame is, after the tags that may come first."""
    if head[:3] != b"ID3":
        return 0
    length = 0
    for byte in head[6:10]:
        length = length << 7 | byte & 0x7F
    return 10 + length


def _xing_bytes(file: BinaryIO, start: int) -> tuple[int, int] | None:
    """Where the first frame of an mp3 file has the number of bytes of all frames, and that number."""
    file.seek(start)
    frame = file.read(200)
    if not _frame_length(frame[:4]):
        return None
    for name, flags in ((b"Xing", True), (b"Info", True), (b"VBRI", False)):
        at = frame.find(name, 4, 60)
        if at < 0 or at + 16 > len(frame):
            continue
        if flags and not frame[at + 7] & 2:
            return None
        at += (8 + 4 * (frame[at + 7] & 1)) if flags else 10
        return start + at, int.from_bytes(frame[at : at + 4], "big")
    return None


def _chain(data: bytes, place: int) -> Iterator[int]:
    """Where each of the frames of an mp3 ends that follow each other from a place on."""
    while place + 4 <= len(data) and (length := _frame_length(data[place : place + 4])):
        place += length
        yield place


def _frame_length(header: bytes) -> int:
    """Bytes of a frame of mp3; 0 where none begins here."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:  # layer III only
        return 0
    version, kbits, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return 0
    first = version == 3
    return (144 if first else 72) * 1000 * _KBITS[first][kbits] // _RATES[version][rate] + (header[2] >> 1 & 1)


def for_libsndfile(path: str) -> bytes | io.BytesIO:
    """A file as soundfile is to open it.

    Its reader of mp3 writes to the terminal where the number of bytes in the first frame is wrong: in such a file, and
    there alone, it is set right in a copy in memory. As bytes: soundfile refuses a name that is not UTF-8.
    """
    with open(path, "rb") as file:
        head = file.read(10)
        if not (head[:3] == b"ID3" or _frame_length(head[:4])):
            return os.fsencode(path)
        size, start = os.fstat(file.fileno()).st_size, _after_id3(head)
        found = _xing_bytes(file, start)
        if not found or abs(size - start - found[1]) <= SHARE / 2 * size:
            return os.fsencode(path)
        file.seek(0)
        data = bytearray(file.read())
    data[found[0] : found[0] + 4] = (size - start).to_bytes(4, "big")
    return io.BytesIO(data)
