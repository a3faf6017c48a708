"""Decodes every segment (`.log`) below a directory with kafka-python, checking each CRC, and prints one JSON line a record.

Usage: decode_log.py DIRECTORY

Each line: {"file", "batch", "codec", "offset", "timestamp", "key", "value", "headers"}; `file` is relative to DIRECTORY, bytes
are hex, `null` is null, `headers` is a list of [name, hex value or null]. After the last record of all: {"files", "batches", "records"}.
Exits 1 at the first batch that kafka-python refuses, with the file and what it said.
"""

import json
import pathlib
import sys

from kafka.record import MemoryRecords

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def hex_or_null(data):
    return None if data is None else bytes(data).hex()


def used(data):
    """Where the batches end and preallocated space, if there is any, begins: all zeros to the end of the file."""
    position = 0
    while position < len(data) and any(data[position : position + 61]):
        length = int.from_bytes(data[position + 8 : position + 12], "big", signed=True)
        if length < 49 or position + 12 + length > len(data):
            raise ValueError(f"at byte {position} stands a batch of {length} bytes, of which {len(data) - position - 12} are there")
        position += 12 + length
    if any(data[position:]):
        raise ValueError(f"something follows the zeros at byte {position}")
    return position


def decode(path, name, out):
    """Writes the records of one file; returns how many batches and records it held."""
    data = path.read_bytes()
    batches = count = 0
    for batch in MemoryRecords(data[: used(data)]):
        if batch.magic != 2:
            raise ValueError(f"magic {batch.magic}")
        if not batch.validate_crc():
            raise ValueError(f"the CRC of the batch at offset {batch.base_offset} is wrong")
        codec = CODECS[batch.compression_type]
        for record in batch:
            line = {
                "file": name,
                "batch": batches,
                "codec": codec,
                "offset": record.offset,
                "timestamp": record.timestamp,
                "key": hex_or_null(record.key),
                "value": hex_or_null(record.value),
                "headers": [[header, hex_or_null(value)] for header, value in record.headers],
            }
            out.write(json.dumps(line, separators=(",", ":")) + "\n")
            count += 1
        batches += 1
    return batches, count


def main():
    root = pathlib.Path(sys.argv[1])
    files = batches = records = 0
    # Twenty digits: RocksDB, beside the partitions, names its own files `.log` too.
    for path in sorted(root.rglob("[0-9]" * 20 + ".log")):
        name = str(path.relative_to(root))
        try:
            more_batches, more_records = decode(path, name, sys.stdout)
        except Exception as error:  # Whatever it is, the file is what must be named.
            sys.exit(f"{name}: {type(error).__name__}: {error}")
        files += 1
        batches += more_batches
        records += more_records
    print(json.dumps({"files": files, "batches": batches, "records": records}))


if __name__ == "__main__":
    main()
