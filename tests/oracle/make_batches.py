"""Makes record batches with kafka-python's own builder, for a node to accept, and prints what it put into them.

Usage: make_batches.py DIRECTORY

Writes DIRECTORY/<codec>.batches for each of the five codecs: some batches back to back, as a Kafka producer would send them. Prints one JSON
line a record, in order: {"codec", "timestamp", "key", "value", "headers"}, bytes as hex, `null` as null.
"""

import json
import pathlib
import sys

from kafka.record import MemoryRecordsBuilder

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
START = 1_700_000_000_000


def records():
    """The records of one codec's batches, a list a batch: every shape that a record can have, and enough text to compress."""
    shapes = [
        (b"key", b"value", []),
        (None, b"no key", []),
        (b"", b"", []),
        (b"tombstone", None, []),
        (None, None, [("only", b"headers")]),
        ("\u8ba2\u5355".encode(), "\u00fcml\u00e4ut".encode(), [("again", b"1"), ("again", b"2"), ("null", None), ("", b""), ("\u540d", b"\x00\xff")]),
        (bytes(range(256)), bytes(range(255, -1, -1)), []),
    ]
    yield shapes
    yield [(b"one", b"alone", [])]
    yield [(str(n % 7).encode(), json.dumps({"n": n, "text": "the same words again " * (n % 5)}).encode(), []) for n in range(500)]


def hex_or_null(data):
    return None if data is None else data.hex()


def main():
    directory = pathlib.Path(sys.argv[1])
    for number, codec in enumerate(CODECS):
        body = b""
        for batch in records():
            builder = MemoryRecordsBuilder(magic=2, compression_type=number, batch_size=1 << 20)
            for index, (key, value, headers) in enumerate(batch):
                # Timestamps go up and down, so that the largest is not the last.
                timestamp = START + index * 10 - (index % 3) * 25
                if builder.append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
                    sys.exit("the builder took no more")
                line = {
                    "codec": codec,
                    "timestamp": timestamp,
                    "key": hex_or_null(key),
                    "value": hex_or_null(value),
                    "headers": [[name, hex_or_null(data)] for name, data in headers],
                }
                print(json.dumps(line, separators=(",", ":")))
            builder.close()
            body += builder.buffer()
        (directory / f"{codec}.batches").write_bytes(body)


if __name__ == "__main__":
    main()
