"""The compression block of a batch: everything after byte 61 (Kafka's file format, 2.1).

gzip by zlib; snappy (xerial framing or raw) and LZ4 frames in Python; zstd if some module for it can be imported.
"""

import zlib

from . import FormatError

NAMES = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
_XERIAL = b"\x82SNAPPY\x00"


class UnreadCodec(Exception):
    """There is no decoder here for this codec."""


def decompress(codec, block):
    """The records of a batch as plain bytes. FormatError if damaged, UnreadCodec if there is no decoder."""
    reader = {0: bytes, 1: gunzip, 2: unsnappy, 3: unlz4, 4: unzstd}.get(codec)
    if reader is None:
        raise FormatError(f"codec {codec} does not exist")
    try:
        return reader(bytes(block))
    except IndexError:
        raise FormatError(f"{NAMES[codec]}: the data ends too early") from None


def gunzip(block):
    """A plain gzip stream."""
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(block) + stream.flush()
    except zlib.error as error:
        raise FormatError(f"gzip: {error}") from None
    if not stream.eof or stream.unused_data:
        raise FormatError("gzip: the stream ends too early" if not stream.eof else "gzip: bytes behind the stream")
    return plain


def unsnappy(block):
    """Xerial framing (magic, int32 version, int32 oldest version, then int32 length + raw snappy …) or raw."""
    if not block.startswith(_XERIAL):
        return _raw_snappy(block)
    if len(block) < 16:
        raise FormatError("snappy: the xerial header is cut")
    plain, position = bytearray(), 16
    while position < len(block):
        length = int.from_bytes(block[position : position + 4], "big")
        position += 4 + length
        if position > len(block):
            raise FormatError("snappy: a xerial block is cut")
        plain += _raw_snappy(block[position - length : position])
    return bytes(plain)


def _raw_snappy(block):
    size = shift = position = 0
    while True:
        byte = block[position]
        position += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift > 28:
            raise FormatError("snappy: bad length")
    plain = bytearray()
    while position < len(block):
        tag = block[position]
        position += 1
        kind = tag & 3
        if kind == 0:
            length = (tag >> 2) + 1
            if length > 60:
                extra = length - 60
                length = int.from_bytes(block[position : position + extra], "little") + 1
                position += extra
            if position + length > len(block):
                raise FormatError("snappy: a literal is cut")
            plain += block[position : position + length]
            position += length
            continue
        if kind == 1:
            length, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | block[position]
            position += 1
        else:
            width = 2 if kind == 2 else 4
            if position + width > len(block):
                raise FormatError("snappy: a copy is cut")
            length, offset = (tag >> 2) + 1, int.from_bytes(block[position : position + width], "little")
            position += width
        _copy_back(plain, offset, length, "snappy")
        if len(plain) > size:
            break
    if len(plain) != size:
        raise FormatError(f"snappy: {len(plain)} bytes instead of {size}")
    return bytes(plain)


def _copy_back(plain, offset, length, name):
    start = len(plain) - offset
    if offset == 0 or start < 0:
        raise FormatError(f"{name}: a copy from before the start")
    if offset >= length:
        plain += plain[start : start + length]
    else:
        plain += (plain[start:] * (length // offset + 1))[:length]


def xxh32(data, seed=0):
    """The checksum inside LZ4 frames."""
    p1, p2, p3, p4, p5, mask = 2654435761, 2246822519, 3266489917, 668265263, 374761393, 0xFFFFFFFF
    word = lambda at: int.from_bytes(data[at : at + 4], "little")
    rotate = lambda value, bits: (value << bits | value >> 32 - bits) & mask
    position = 0
    if len(data) >= 16:
        lanes = [(seed + p1 + p2) & mask, (seed + p2) & mask, seed, (seed - p1) & mask]
        while position + 16 <= len(data):
            for lane in range(4):
                lanes[lane] = rotate((lanes[lane] + word(position) * p2) & mask, 13) * p1 & mask
                position += 4
        value = sum(rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & mask
    else:
        value = (seed + p5) & mask
    value = (value + len(data)) & mask
    while position + 4 <= len(data):
        value = rotate((value + word(position) * p3) & mask, 17) * p4 & mask
        position += 4
    for byte in data[position:]:
        value = rotate((value + byte * p5) & mask, 11) * p1 & mask
    value = (value ^ value >> 15) * p2 & mask
    value = (value ^ value >> 13) * p3 & mask
    return value ^ value >> 16


def unlz4(block):
    """One LZ4 frame, with or without content size, block checksums and linked blocks."""
    if block[:4] != b"\x04\x22\x4d\x18":
        raise FormatError("lz4: no frame here")
    flags = block[4]
    if flags >> 6 != 1:
        raise FormatError("lz4: unknown frame version")
    position = 6 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
    if block[position] != xxh32(block[4:position]) >> 8 & 0xFF:
        raise FormatError("lz4: the frame header's checksum is wrong")
    content_size = int.from_bytes(block[6:14], "little") if flags & 8 else None
    position += 1
    plain = bytearray()
    while True:
        word = int.from_bytes(block[position : position + 4], "little")
        if position + 4 > len(block):
            raise FormatError("lz4: no end mark")
        position += 4
        if word == 0:
            break
        size = word & 0x7FFFFFFF
        data = block[position : position + size]
        position += size + (4 if flags & 16 else 0)
        if position > len(block):
            raise FormatError("lz4: a block is cut")
        if flags & 16 and xxh32(data) != int.from_bytes(block[position - 4 : position], "little"):
            raise FormatError("lz4: a block's checksum is wrong")
        if word >> 31:
            plain += data
        elif flags & 32:
            plain += _lz4_block(data, bytearray())
        else:
            linked = _lz4_block(data, plain[-65536:])
            plain += linked[min(len(plain), 65536) :]
    if flags & 4:
        if xxh32(plain) != int.from_bytes(block[position : position + 4], "little"):
            raise FormatError("lz4: the content's checksum is wrong")
        position += 4
    if position != len(block) or content_size not in (None, len(plain)):
        raise FormatError("lz4: bytes behind the frame, or another content size")
    return bytes(plain)


def _lz4_block(data, plain):
    """Appends the block's bytes to `plain`, which begins with what earlier blocks may be copied from."""
    position = 0
    while True:
        token = data[position]
        position += 1
        length = token >> 4
        if length == 15:
            while True:
                byte = data[position]
                position += 1
                length += byte
                if byte != 255:
                    break
        if position + length > len(data):
            raise FormatError("lz4: a literal is cut")
        plain += data[position : position + length]
        position += length
        if position == len(data):
            return plain
        offset = data[position] | data[position + 1] << 8
        position += 2
        length = token & 15
        if length == 15:
            while True:
                byte = data[position]
                position += 1
                length += byte
                if byte != 255:
                    break
        _copy_back(plain, offset, length + 4, "lz4")


def _zstd_reader():
    try:
        from compression import zstd  # Python 3.14
        return zstd.decompress
    except ImportError:
        pass
    try:
        import zstandard
        return lambda block: zstandard.ZstdDecompressor().decompressobj().decompress(block)
    except ImportError:
        return None


_ZSTD = _zstd_reader()


def unzstd(block):
    """A standard zstd frame."""
    if block[:4] != b"\x28\xb5\x2f\xfd":
        raise FormatError("zstd: no frame here")
    if _ZSTD is None:
        raise UnreadCodec("zstd")
    try:
        return _ZSTD(block)
    except Exception as error:  # each module has its own
        raise FormatError(f"zstd: {error}") from None
