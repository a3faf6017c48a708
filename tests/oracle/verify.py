#!/usr/bin/env python3
"""Checks a directory of Kafka's files against Kafka's own rules, or prints one file. See README.md beside this."""

import argparse
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from kafka_files import check_log_dir, crc32c, dump  # noqa: E402
from kafka_files.report import Options, Report  # noqa: E402

CLEAN, PROBLEMS, USAGE = 0, 1, 2


def verify(arguments):
    parser = argparse.ArgumentParser(prog="verify.py", description=__doc__, epilog="Also: verify.py dump FILE")
    parser.add_argument("directories", metavar="DIR", nargs="+", help="a partition's directory or a log directory")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--strict", action="store_true", help="notes count as problems")
    parser.add_argument("--no-crc", action="store_true", help="do not compute the CRC of the batches")
    parser.add_argument("--no-records", action="store_true", help="headers only: do not read the records")
    parser.add_argument("--contiguous", action="store_true", help="never compacted: no offset may be missing")
    parser.add_argument("--index-interval", type=int, metavar="BYTES",
                        help="index.interval.bytes: more than this lies between two index entries")
    parser.add_argument("--exact-index", action="store_true",
                        help="with --index-interval: exactly the entries that one go without a restart writes")
    parser.add_argument("--producer-expiration-ms", type=int, default=86_400_000, metavar="MS",
                        help="producer.id.expiration.ms: idle producers may be missing from snapshots")
    parser.add_argument("--lookups", type=int, default=500, metavar="N",
                        help="look-ups by offset, and as many by timestamp, in each segment (0: none)")
    args = parser.parse_args(arguments)
    if args.exact_index and args.index_interval is None:
        parser.error("--exact-index needs --index-interval")
    options = Options(not args.no_crc, not args.no_records, args.contiguous, args.index_interval, args.exact_index,
                      args.producer_expiration_ms, args.lookups)
    report = Report()
    for directory in args.directories:
        try:
            check_log_dir.check(directory, options, report)
        except (OSError, ValueError) as error:
            print(f"verify.py: {error}", file=sys.stderr)
            return USAGE
    failed = report.counts["problems"] + (report.counts["notes"] if args.strict else 0)
    if args.json:
        print(json.dumps({"ok": not failed, "counts": report.counts, "crc_checked": options.crc,
                          "records_read": options.records, "findings": report.findings}, indent=1))
    else:
        for line in report.lines():
            print(line)
        how = f"CRC by {crc32c.IMPLEMENTATION}" if options.crc else "CRC not checked"
        how += "" if options.records else ", records not read"
        print(", ".join(f"{number} {name}" for name, number in sorted(report.counts.items())) + f" ({how})")
        unread = report.counts["batches of an unread codec"]
        print("problems" if failed else f"clean, but {unread} batches were not read" if unread else "clean")
    return PROBLEMS if failed else CLEAN


def dump_file(arguments):
    parser = argparse.ArgumentParser(prog="verify.py dump", description="Prints what a file holds.")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--records", action="store_true", help="of a .log: the records too")
    parser.add_argument("--no-crc", action="store_true", help="of a .log: do not compute the CRC")
    args = parser.parse_args(arguments)
    try:
        for line in dump.dump(args.file, Options(crc=not args.no_crc, records=args.records)):
            text = json.dumps(line) if args.json else " ".join(f"{k}: {v}" for k, v in line.items())
            print(text)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        print(f"verify.py: {args.file}: {error}", file=sys.stderr)
        named = os.path.isfile(args.file) and not str(error).endswith("has this name")
        return PROBLEMS if named else USAGE
    return CLEAN


def main(arguments):
    try:
        return dump_file(arguments[1:]) if arguments[:1] == ["dump"] else verify(arguments)
    except BrokenPipeError:
        sys.stderr.close()
        return USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
