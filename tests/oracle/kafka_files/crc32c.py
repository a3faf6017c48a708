"""CRC-32C (Castagnoli), the checksum of record batches and producer snapshots (Kafka's file format, 2.1 and 2.5).

Pure Python. Short inputs go through the usual byte table. Long inputs are folded first: a CRC is linear, so a byte can
be replaced by four bytes XORed into the input `distance` bytes further on, and `bytes.translate` does that for
thousands of bytes at a time. If `google_crc32c` or `crc32c` can be imported and gives the known values, it is used.
"""

from functools import lru_cache

_POLYNOMIAL = 0x82F63B78  # reflected
_FOLD_ABOVE = 256  # bytes; below, the plain loop is quicker
_KNOWN = ((b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43))


def _byte_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _byte_table()


def crc32c_plain(data):
    """Byte by byte through the table."""
    table, state = _TABLE, 0xFFFFFFFF
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ 0xFFFFFFFF


@lru_cache(maxsize=64)
def _fold_tables(distance):
    """For each byte value, what the register holds `distance` bytes later: four translation tables, low byte first."""
    # The register is linear in the byte, so eight single bits say it all.
    of_bit = []
    for bit in range(8):
        state = _TABLE[1 << bit]
        for step in range(distance.bit_length() - 1):
            state = _advance(state, step)
        # _advance took distance - 1 zero bytes in all (1 + 2 + 4 + … for a power of two)
        of_bit.append(state)
    states = [0] * 256
    for value in range(1, 256):
        low = value & -value
        states[value] = states[value ^ low] ^ of_bit[low.bit_length() - 1]
    return tuple(bytes(state >> 8 * plane & 0xFF for state in states) for plane in range(4))


@lru_cache(maxsize=64)
def _advance_matrix(step):
    """The images of the 32 bits of the register after 2**step zero bytes."""
    if step == 0:
        return tuple(_TABLE[(1 << bit) & 0xFF] ^ (1 << bit) >> 8 for bit in range(32))
    half = _advance_matrix(step - 1)
    return tuple(_apply(half, image) for image in half)


def _apply(matrix, state):
    result = 0
    while state:
        low = state & -state
        result ^= matrix[low.bit_length() - 1]
        state ^= low
    return result


def _advance(state, step):
    return _apply(_advance_matrix(step), state)


def crc32c_folding(data):
    """The same value as `crc32c_plain`, many times faster on long inputs."""
    data = bytes(data)
    if len(data) <= _FOLD_ABOVE:
        return crc32c_plain(data)
    number = int.from_bytes
    # Starting from all ones is the same as flipping the first four bytes and starting from zero.
    data = bytes(byte ^ 0xFF for byte in data[:4]) + data[4:]
    while len(data) > _FOLD_ABOVE:
        distance = 1 << (len(data) - 4).bit_length() - 1
        head = min(distance, len(data) - 3 - distance)
        first, window = data[:head], data[distance : distance + head + 3]
        folded = number(window, "little")
        for plane, table in enumerate(_fold_tables(distance)):
            folded ^= number(first.translate(table), "little") << 8 * plane
        data = data[head:distance] + folded.to_bytes(head + 3, "little") + data[distance + head + 3 :]
    table, state = _TABLE, 0
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ 0xFFFFFFFF


def _quickest():
    def candidates():
        try:
            import google_crc32c
            yield "google_crc32c", google_crc32c.value
        except ImportError:
            pass
        try:
            import crc32c as module
            yield "crc32c", module.crc32c
        except ImportError:
            pass

    for name, function in candidates():
        if all(function(data) == value for data, value in _KNOWN):
            return name, function
    return "pure Python", crc32c_folding


IMPLEMENTATION, crc32c = _quickest()
