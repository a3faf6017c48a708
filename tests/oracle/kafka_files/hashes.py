"""Which partition a key, a group or a transactional id belongs to (Kafka's file format, 2.1)."""

import struct

_MASK = 0xFFFFFFFF


def _signed(value):
    return value - (1 << 32) if value >> 31 else value


def murmur2(data):
    """The key's hash, signed: seed 0x9747b28c, blocks of 4 bytes, little-endian."""
    m, length = 0x5BD1E995, len(data)
    value = 0x9747B28C ^ length
    for (word,) in struct.iter_unpack("<I", data[: length & ~3]):
        word = word * m & _MASK
        word = (word ^ word >> 24) * m & _MASK
        value = value * m & _MASK ^ word
    if tail := data[length & ~3 :]:
        value = (value ^ int.from_bytes(tail, "little")) * m & _MASK
    value = (value ^ value >> 13) * m & _MASK
    return _signed(value ^ value >> 15)


def partition_of_key(key, partitions):
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def java_hash(text):
    """Java's String.hashCode, over UTF-16 code units."""
    value = 0
    for (unit,) in struct.iter_unpack(">H", text.encode("utf-16-be")):
        value = (31 * value + unit) & _MASK
    return _signed(value)


def partition_of_name(text, partitions):
    """Of a group or a transactional id. The absolute value of the smallest number is 0."""
    value = java_hash(text)
    return (0 if value == -(2**31) else abs(value)) % partitions
