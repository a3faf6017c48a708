"""Zig-zag base-128 numbers, 7 bits a byte, low group first (Kafka's file format, 2.1)."""

from . import FormatError


def _read_long_form(data, position, bits):
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift >= bits:
            raise FormatError(f"a variable-length number of more than {bits} bits")
    if value >> bits:
        raise FormatError(f"a variable-length number of more than {bits} bits")
    return (value >> 1) ^ -(value & 1), position


def read_varint(data, position):
    """The 32-bit number at `position`, and the position behind it. Past the end: IndexError."""
    byte = data[position]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), position + 1
    return _read_long_form(data, position, 32)


def read_varlong(data, position):
    """The 64-bit number at `position`, and the position behind it. Past the end: IndexError."""
    byte = data[position]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), position + 1
    return _read_long_form(data, position, 64)


def write_varint(number, bits=32):
    """The shortest form of `number`."""
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise FormatError(f"{number} does not fit {bits} bits")
    value = (number << 1) ^ (number >> bits - 1)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_varlong(number):
    """The shortest form of a 64-bit `number`."""
    return write_varint(number, 64)
