"""The `.log` file: batches back to back (Kafka's file format, 2.2), read through mmap."""

import mmap
import os

from .batch import HEADER, HEADER_SIZE, LOG_OVERHEAD, BatchHeader

_CHUNK = 1 << 20


def map_file(path):
    """The file's bytes without reading them: an mmap, or b"" for an empty file (which cannot be mapped)."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def all_zero(data, start=0):
    """Whether there is nothing but zero bytes from `start` on."""
    return all(
        (chunk := data[at : at + _CHUNK]).count(b"\0") == len(chunk) for at in range(start, len(data), _CHUNK)
    )


class LogFile:
    """One `.log` file. After `batches()` is exhausted, `end` and `tail` say where the batches stop and why."""

    CLEAN, ZERO, TORN, BROKEN = "clean", "zero", "torn", "broken"

    def __init__(self, data):
        self.data = data
        self.size = len(data)
        self.end = 0
        self.tail = self.CLEAN

    def batches(self, position=0):
        """Yields (position, header) up to the first thing that is not a whole batch of magic 2."""
        data, size, unpack, make = self.data, self.size, HEADER.unpack_from, BatchHeader._make
        while position + HEADER_SIZE <= size:
            header = make(unpack(data, position))
            end = position + LOG_OVERHEAD + header[1]
            if header[1] < HEADER_SIZE - LOG_OVERHEAD or header[3] != 2 or end > size:
                break
            yield position, header
            position = end
        self.end, self.tail = position, self._tail(position)

    def _tail(self, position):
        left = self.size - position
        if left == 0:
            return self.CLEAN
        if all_zero(self.data, position):
            return self.ZERO
        if left < LOG_OVERHEAD:
            return self.TORN
        length = int.from_bytes(self.data[position + 8 : position + 12], "big", signed=True)
        whole = length >= HEADER_SIZE - LOG_OVERHEAD and length + LOG_OVERHEAD > left
        return self.TORN if whole and (left <= 16 or self.data[position + 16] == 2) else self.BROKEN
