"""Known bytes of every file, round trips, broken rules, and damage: each must be seen. Run:

python3 -m unittest discover -s tests/oracle -p 'test_*.py'
"""

import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import verify  # noqa: E402
from kafka_files import (  # noqa: E402
    FormatError, batch, check_log_dir, checkpoints, codecs, crc32c, hashes, indexes, producers, segment, varint, write,
)
from kafka_files.report import Options, Report  # noqa: E402

NOW = 1_700_000_000_000
V1 = bytes.fromhex(
    "00000000000000000000003a0000000002e99b8dd80000000000000000018bcfe568000000018bcfe56800ffffffffffffffffffffffffffff"
    "0000000110000000026b027600"
)
V2 = bytes.fromhex(
    "000000000000006400000052000000030298bbee8f0000000000020000018bcfe568000000018bcfe568070000000000000fa000010000000a"
    "0000000314000000046b310476310018000a0201047632020268027810000e04046b330100"
)
COMMIT = bytes.fromhex(
    "0000000000000067000000420000000302a51ed46c0030000000000000018bcfe5680a0000018bcfe5680a0000000000000fa00001ffffffff"
    "000000012000000008000000010c00000000000700"
)
ABORT = bytes.fromhex(
    "0000000000000067000000420000000302512002240030000000000000018bcfe5680a0000018bcfe5680a0000000000000fa00001ffffffff"
    "000000012000000008000000000c00000000000700"
)
EMPTY = bytes.fromhex(
    "0000000000000064000000310000000302f7392749000000000002ffffffffffffffff0000018bcfe568070000000000000fa000010000000a"
    "00000000"
)
SNAPSHOT = bytes.fromhex(
    "000140d95fc7000000010000000000000fa000010000000c0000000000000066000000020000018bcfe56807ffffffffffffffffffffffff"
)
LINE = b"tide gate tide gate tide gate tide gate 1234"
PACKED = {  # LINE by other encoders
    2: "2c2474696465206761746520760a000c31323334",
    3: "04224d186440a714000000af746964652067617465200a000a50203132333400000000aa301449",
    4: "28b52ffd202ca500007074696465206761746520313233340100150b12",
}


class Vectors(unittest.TestCase):
    def test_crc(self):
        for function in (crc32c.crc32c_plain, crc32c.crc32c_folding, crc32c.crc32c):
            self.assertEqual(function(b"123456789"), 0xE3069283)
            self.assertEqual(function(b"\xff" * 32), 0x62A8AB43)
            self.assertEqual(function(bytes(range(32))), 0x46DD794E)
        data = random.Random(1).randbytes(70_000)
        for length in [*range(240, 1100, 7), 4096, 4099, 65_536, 65_539, 70_000]:
            self.assertEqual(crc32c.crc32c_plain(data[:length]), crc32c.crc32c_folding(data[:length]), length)

    def test_varints(self):
        for number, known in ((0, "00"), (-1, "01"), (1, "02"), (63, "7e"), (-64, "7f"), (64, "8001"), (300, "d804")):
            self.assertEqual(varint.write_varint(number).hex(), known)
        for bits, read in ((32, varint.read_varint), (64, varint.read_varlong)):
            for power in range(bits):
                for number in (2**power - 1, -(2**power)):
                    encoded = varint.write_varint(number, bits)
                    self.assertEqual(read(b"x" + encoded, 1), (number, 1 + len(encoded)))
                    with self.assertRaises(IndexError):
                        read(encoded[:-1], 0)
            with self.assertRaises(FormatError):
                read(b"\xff" * 11, 0)

    def test_v1(self):
        self.assertEqual(write.record_batch(0, [(0, 0, b"k", b"v")], NOW), V1)
        header = batch.parse_header(V1)
        self.assertEqual((header.size, header.last_offset, header.max_timestamp), (len(V1), 0, NOW))
        self.assertEqual(list(batch.records_of(V1, 0, header)), [batch.Record(0, 0, b"k", b"v")])

    def test_v2(self):
        records = [(0, 0, b"k1", b"v1"), (1, 5, None, b"v2", (("h", b"x"),)), (2, 7, b"k3", None)]
        self.assertEqual(write.record_batch(100, records, NOW, epoch=3, producer=(4000, 1, 10)), V2)
        header = batch.parse_header(V2)
        self.assertEqual((header.last_offset, header.last_sequence, header.max_timestamp), (102, 12, NOW + 7))
        self.assertEqual(list(batch.records_of(V2, 0, header)), [batch.Record(*record) for record in records])

    def test_markers(self):
        for data, kind in ((COMMIT, batch.COMMIT), (ABORT, batch.ABORT)):
            self.assertEqual(write.marker(103, kind, NOW + 10, 4000, 1, 7, epoch=3), data)
            header = batch.parse_header(data)
            self.assertTrue(header.is_control and header.is_transactional)
            (record,) = batch.records_of(data, 0, header)
            self.assertEqual(batch.parse_control(record), (kind, 7))

    def test_empty(self):
        kept = {"epoch": 3, "producer": (4000, 1, 10), "last_offset_delta": 2, "max_timestamp": NOW + 7}
        self.assertEqual(write.record_batch(100, [], -1, **kept), EMPTY)
        self.assertEqual(list(batch.header_faults(batch.parse_header(EMPTY))), [])

    def test_all_vectors_are_sound(self):
        for data in (V1, V2, COMMIT, ABORT, EMPTY):
            header = batch.parse_header(data)
            self.assertEqual(crc32c.crc32c(data[batch.CRC_START :]), header.crc)
            self.assertEqual(list(batch.header_faults(header)), [])
            self.assertEqual(list(batch.record_faults(header, list(batch.records_of(data, 0, header)))), [])

    def test_indexes(self):
        for data, entry, read, make in (
            ("0000000300001068", (3, 4200), indexes.read_offset_index, write.offset_index),
            ("0000018bcfe5680700000002", (NOW + 7, 2), indexes.read_time_index, write.time_index),
        ):
            data = bytes.fromhex(data)
            self.assertEqual(make([entry]), data)
            self.assertEqual(read(data), ([entry], 0, False))
            self.assertEqual(read(data + bytes(10 * len(data))), ([entry], 10 * len(data), False))
            self.assertTrue(read(data + bytes(len(data)) + data).tail_is_dirty)
            with self.assertRaises(FormatError):
                read(data[:-1])
        data = bytes.fromhex("00000000000000000fa0000000000000006400000000000000670000000000000068")
        self.assertEqual(indexes.read_aborted_transactions(data), [(4000, 100, 103, 104)])
        self.assertEqual(write.aborted_transactions([(4000, 100, 103, 104)]), data)

    def test_snapshot(self):
        entry = producers.ProducerEntry(4000, 1, 12, 102, 2, NOW + 7, -1, -1)
        self.assertEqual(producers.read_snapshot(SNAPSHOT), [entry])
        self.assertEqual(write.snapshot([entry]), SNAPSHOT)
        for bit in range(8 * len(SNAPSHOT)):
            with self.assertRaises(FormatError):
                producers.read_snapshot(flipped(SNAPSHOT, bit))
        for length in range(len(SNAPSHOT)):
            with self.assertRaises(FormatError):
                producers.read_snapshot(SNAPSHOT[:length])

    def test_text_files(self):
        self.assertEqual(checkpoints.read_leader_epochs(b"0\n2\n0 0\n3 100\n"), [(0, 0), (3, 100)])
        self.assertEqual(checkpoints.read_offset_checkpoint(b"0\n1\na-b 7 12\n"), {("a-b", 7): 12})
        topic_id = b"0123456789abcdef"
        self.assertEqual(checkpoints.read_partition_metadata(write.partition_metadata(topic_id)), topic_id)
        self.assertEqual(checkpoints.read_clean_shutdown(b'{"version":0,"brokerEpoch":5}')["brokerEpoch"], 5)
        meta = b"#comment\nversion=1\ncluster.id=c\nnode.id=1\ndirectory.id=d\n"
        self.assertEqual(checkpoints.read_meta_properties(meta)["node.id"], "1")
        for read, data in (
            (checkpoints.read_leader_epochs, b"0\n2\n0 0\n"), (checkpoints.read_leader_epochs, b"0\n2\n1 0\n0 5\n"),
            (checkpoints.read_leader_epochs, b"0\n2\n0 5\n1 5\n"), (checkpoints.read_leader_epochs, b"0\n1\n0 0"),
            (checkpoints.read_leader_epochs, b"1\n0\n"), (checkpoints.read_leader_epochs, b""),
            (checkpoints.read_offset_checkpoint, b"0\n2\nt 0 1\nt 0 2\n"),
            (checkpoints.read_offset_checkpoint, b"0\n1\nt 0\n"),
            (checkpoints.read_offset_checkpoint, b"0\n1\nt 0 -1\n"),
            (checkpoints.read_partition_metadata, b"version: 0\ntopic_id: AAAA\n"),
            (checkpoints.read_clean_shutdown, b"{}"), (checkpoints.read_meta_properties, b"version=1\n"),
        ):
            with self.assertRaises(FormatError, msg=data):
                read(data)

    def test_codecs(self):
        raw = bytes.fromhex(PACKED[2])
        xerial = b"\x82SNAPPY\0" + bytes([0, 0, 0, 1] * 2) + 2 * (len(raw).to_bytes(4, "big") + raw)
        for codec, block, plain in ((1, write.gzip(LINE), LINE), (2, raw, LINE), (2, xerial, 2 * LINE),
                                    (3, bytes.fromhex(PACKED[3]), LINE)):
            self.assertEqual(codecs.decompress(codec, block), plain)
            for length in range(len(block)):
                with contextlib.suppress(FormatError):  # a cut at a xerial block's end is a shorter stream
                    self.assertIn(codecs.decompress(codec, block[:length]), (b"", LINE))
        for bit in range(8 * len(PACKED[3]) // 2):
            with contextlib.suppress(FormatError):  # or the copy is from an equal place
                self.assertEqual(LINE, codecs.decompress(3, flipped(bytes.fromhex(PACKED[3]), bit)))
        try:
            self.assertEqual(codecs.decompress(4, bytes.fromhex(PACKED[4])), LINE)
        except codecs.UnreadCodec:
            pass
        with self.assertRaises(FormatError):
            codecs.decompress(5, b"")

    def test_hashes(self):
        for key, known in ((b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536),
                           (b"a-little-bit-longer-string", -1486304829), (b"abc", 479470107),
                           (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971)):
            self.assertEqual(hashes.murmur2(key), known)
        for name, known, partition in (
            ("test-group", 627841412, 12), ("my-group", -1906497762, 12), ("console-consumer-1", 35782224, 24),
            ("订单组", 35045681, 31), ("my-transactional-id", -959806496, 46),
        ):
            self.assertEqual((hashes.java_hash(name), hashes.partition_of_name(name, 50)), (known, partition))

    def test_log_tails(self):
        for tail, name in ((b"", "clean"), (bytes(70), "zero"), (V1[:69], "torn"), (V1[:12], "torn"),
                           (V1[:5], "zero"), (b"x" * 80, "broken"), (flipped(V1, 16 * 8), "broken")):
            log = segment.LogFile(V1 + tail)
            self.assertEqual([position for position, _ in log.batches()], [0])
            self.assertEqual((log.tail, log.end), (name, len(V1)))


def flipped(data, bit):
    data = bytearray(data)
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def plain(offset, timestamp=NOW, count=1, **more):
    return write.record_batch(offset, [(n, n, b"key", b"value") for n in range(count)], timestamp, **more)


def of_txn(offset, producer, sequence=0):
    return plain(offset, attributes=batch.TRANSACTIONAL, producer=(producer, 0, sequence))


class Directories(unittest.TestCase):
    """A log directory `d` with partition `t-0`: an aborted transaction in the first of two segments."""

    SEGMENTS = {
        0: [plain(0, NOW + 5), of_txn(1, 9), of_txn(2, 8), write.marker(3, batch.ABORT, NOW + 9, 9, 0, 2)],
        4: [write.marker(4, batch.COMMIT, NOW + 20, 8, 0, 2, epoch=1),
            plain(5, NOW + 15, epoch=1), plain(6, NOW + 30, epoch=1)],
    }
    ABORTED = {0: [(9, 1, 3, 2)]}
    SNAPSHOTS = {4: [(8, 0, 0, 2, 0, NOW, -1, 2), (9, 0, 0, 1, 0, NOW + 9, 2, -1)]}
    ROWS = {"recovery-point": 7, "replication": 7}
    EPOCHS = [(0, 0), (1, 4)]

    def setUp(self):
        self.root = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)  # thousands of small writes
        self.addCleanup(shutil.rmtree, self.root)
        self.make()

    def make(self, segments=None, *, name="t-0", **more):
        directory = os.path.join(self.root, name)
        shutil.rmtree(directory, ignore_errors=True)
        options = {"interval": 60, "epochs": [(0, 0)]}
        if segments is None:
            options |= {"epochs": self.EPOCHS, "aborted": self.ABORTED, "snapshots": self.SNAPSHOTS}
        write.partition(directory, segments or self.SEGMENTS, **options | more)
        for checkpoint, offset in self.ROWS.items():
            if segments is None:
                self.put(f"{checkpoint}-offset-checkpoint", write.checkpoint([("t", 0, offset)]))
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(os.path.join(self.root, f"{checkpoint}-offset-checkpoint"))

    def put(self, name, data):
        with open(os.path.join(self.root, name), "wb") as file:
            file.write(data)

    def get(self, name):
        with open(os.path.join(self.root, name), "rb") as file:
            return file.read()

    def check(self, **options):
        report = Report()
        check_log_dir.check(self.root, Options(**options), report)
        return report

    def codes(self, **options):
        return self.check(**options).codes()

    def test_clean(self):
        report = self.check(contiguous=True, index_interval=60)
        self.assertEqual(report.findings, [])
        self.assertEqual((report.counts["batches"], report.counts["segments"], report.counts["snapshots"]), (7, 2, 1))

    def test_each_flipped_bit_is_seen(self):
        for name in sorted(os.listdir(os.path.join(self.root, "t-0"))):
            if name == "partition.metadata":
                continue  # another topic id is as good as this one
            path = f"t-0/{name}"
            data = self.get(path)
            for bit in range(8 * len(data)):
                self.put(path, flipped(data, bit))
                self.assertTrue(self.codes(contiguous=True, lookups=3), f"{name}, bit {bit}")
            self.put(path, data)

    def test_each_truncation_is_seen(self):
        for name in sorted(os.listdir(os.path.join(self.root, "t-0"))):
            path = f"t-0/{name}"
            data = self.get(path)
            for length in range(len(data)):
                self.put(path, data[:length])
                found = self.codes(contiguous=True, lookups=3)
                at_entry = name.endswith(".index") and length % 8 == 0
                at_entry |= name.endswith("4.timeindex") and length % 12 == 0
                at_line = name == "partition.metadata" and length == len(data) - 1
                self.assertTrue(found or at_entry or at_line, f"{name} cut at {length}")
            self.put(path, data)

    def test_compacted(self):
        batches = [EMPTY, write.marker(103, batch.COMMIT, NOW + 10, 4000, 1, 7, epoch=3),
                   write.record_batch(110, [(2, 0, b"k", b"v"), (7, 9, b"l", None)], NOW, epoch=3,
                                      last_offset_delta=9)]
        self.make({50: batches}, epochs=[(3, 40)])
        self.assertEqual(self.codes(), set())
        self.assertEqual(self.codes(contiguous=True), {"batch.gap", "batch.record-count"})

    def test_broken_rules(self):
        two = lambda *more: {0: [plain(0, count=2), *more]}
        sealed = lambda data: write.reseal(data)
        v1_with = lambda at, value: sealed(V1[:at] + value + V1[at + len(value) :])
        for code, segments in {
            "batch.order": two(plain(1)),
            "batch.epoch": two(plain(2, epoch=3), plain(3, epoch=2)),
            "epochs.batch": two(plain(2, epoch=7)),
            "batch.attributes": {0: [v1_with(21, b"\x01")]},
            "batch.record-count": {0: [v1_with(57, b"\0\0\0\2")]},
            "batch.records": {0: [v1_with(61, b"\x0e")]},
            "batch.max-timestamp": {0: [v1_with(42, b"\1")]},
            "batch.producer": {0: [v1_with(51, b"\0\0")]},
            "batch.control": {0: [v1_with(21, b"\0\x20")]},
            "batch.empty": {0: [write.record_batch(0, [], 0, last_offset_delta=0, max_timestamp=0)]},
            "record.offset-delta": {0: [write.record_batch(0, [(0, 0, b"k", b"v")] * 2, NOW, last_offset_delta=1)]},
            "producer.sequence": {0: [of_txn(0, 9), of_txn(1, 9, 2)]},
            "producer.epoch": {0: [plain(0, producer=(9, 2, 0)), plain(1, producer=(9, 1, 0))]},
            "producer.transaction": {0: [of_txn(0, 9), plain(1, producer=(9, 0, 1))]},
            "txnindex.missing": {0: [of_txn(0, 9), write.marker(1, batch.ABORT, NOW, 9, 0, 2)]},
            "segment.overlap": {0: [plain(0, count=9)], 5: [plain(9)]},
            "segment.range": {0: [plain(0), plain(2**31)]},
            "log.torn-tail": two(plain(2)[:-1]),
            "log.broken-tail": two(b"x" * 99),
            "log.zero-tail": {0: [plain(0) + bytes(9)], 1: [plain(1)]},
        }.items():
            with self.subTest(code):
                self.make(segments, interval=4096)
                self.assertIn(code, self.codes())
        self.make({0: [plain(0) + bytes(99)]})
        report = self.check()
        self.assertEqual((report.codes(), report.codes("note")), (set(), {"log.zero-tail"}))

    def test_broken_indexes(self):
        name = "t-0/" + "0" * 20
        for kind, edit, code in (
            ("index", lambda data: data + bytes(8), "index.not-trimmed"),
            ("index", lambda data: data + b"\0\0\0\4\0\0\0\1", "index.order"),
            ("index", lambda data: data + bytes(8) + data, "index.dirty-tail"),
            ("index", lambda data: b"\0\0\0\1\0\0\0\1" + data, "index.position"),
            ("index", lambda data: data[:3] + b"\3" + data[4:], "index.offset"),
            ("index", lambda data: data[:3] + b"\0" + data[4:], "lookup.offset"),
            ("timeindex", lambda data: data[:12], "timeindex.last"),
            ("timeindex", lambda data: data[12:] + data[:12], "timeindex.order"),
            ("timeindex", lambda data: write.time_index([(NOW, 1), (NOW + 9, 3)]), "timeindex.maximum"),
            ("timeindex", lambda data: write.time_index([(NOW, 1), (NOW + 9, 3)]), "lookup.timestamp"),
            ("timeindex", lambda data: data + bytes(1), "timeindex.file"),
            ("txnindex", lambda data: data + data, "txnindex.order"),
            ("txnindex", lambda data: write.aborted_transactions([(8, 1, 3, 2)]), "txnindex.marker"),
            ("txnindex", lambda data: write.aborted_transactions([(9, 1, 3, 4)]), "txnindex.row"),
            ("log", lambda data: plain(0, NOW + 5) + plain(1, NOW + 8) + data[2 * 81 :], "snapshot.entry"),
        ):
            with self.subTest(code):
                data = self.get(f"{name}.{kind}")
                self.put(f"{name}.{kind}", edit(data))
                found = self.codes()
                self.put(f"{name}.{kind}", data)
                self.assertIn(code, found)
        self.assertIn("index.sparse", self.codes(index_interval=100))
        self.assertEqual(self.codes(index_interval=60, exact_index=True), set())
        self.put(f"{name}.index", self.get(f"{name}.index")[:8])
        self.assertEqual(self.codes(index_interval=60, exact_index=True), {"index.exact"})

    def test_checkpoints_against_the_log(self):
        for name in ("recovery-point", "replication", "log-start", "cleaner"):
            path = f"{name}-offset-checkpoint"
            self.put(path, write.checkpoint([("t", 0, 8)]))
            self.assertEqual(self.codes(), {f"checkpoint.{name}"})
            self.put(path, write.checkpoint([("t", 0, 7)]))
        self.put("recovery-point-offset-checkpoint", write.checkpoint([("t", 0, 6)]))
        self.assertEqual((self.codes(), self.check().codes("note")), (set(), {"checkpoint.recovery-point"}))
        self.put(".kafka_cleanshutdown", b'{"version":0,"brokerEpoch":1}')
        self.assertIn("checkpoint.recovery-point", self.codes())

    def test_snapshots_that_do_not_fit(self):
        for offset, entries, code in (
            (9, [], "snapshot.beyond"),
            (7, [(9, 0, 0, 1, 0, NOW + 9, 2, -1)], "snapshot.entry"),
            (7, [(8, 0, 5, 2, 0, NOW + 20, 2, -1), (9, 0, 0, 1, 0, NOW + 9, 2, -1)], "snapshot.entry"),
        ):
            self.make(snapshots=self.SNAPSHOTS | {offset: entries})
            self.assertEqual(self.codes(producer_expiration_ms=2**62), {code})
        self.make({0: [plain(0, count=5)]}, snapshots={3: []})
        self.assertEqual(self.codes(), {"snapshot.within"})

    def test_trimmed_log_replays_from_its_snapshot(self):
        self.make({4: self.SEGMENTS[4]}, epochs=self.EPOCHS, snapshots=self.SNAPSHOTS)
        self.assertEqual(self.codes(contiguous=True), set())

    def test_unread_codec_is_never_silent(self):
        reader, codecs._ZSTD = codecs._ZSTD, None
        self.addCleanup(setattr, codecs, "_ZSTD", reader)
        self.make({0: [plain(0, attributes=4, compress=lambda block: b"\x28\xb5\x2f\xfd" + block)]})
        report = self.check()
        self.assertEqual((report.codes(), report.codes("note")), (set(), {"batch.unread-codec"}))
        self.assertEqual(report.counts["batches of an unread codec"], 1)

    def test_gzip_batch(self):
        self.make({0: [plain(0, count=30, attributes=1, compress=write.gzip)]})
        self.assertEqual(self.codes(contiguous=True), set())

    def test_command_line(self):
        def run(*arguments):
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
                try:
                    return verify.main(list(arguments)), out.getvalue()
                except SystemExit as stop:
                    return stop.code, out.getvalue()

        partition = os.path.join(self.root, "t-0")
        for directory in (self.root, partition):
            code, out = run("--json", directory)
            self.assertEqual((code, json.loads(out)["ok"]), (0, True))
        self.assertEqual(run("--no-crc", "--no-records", self.root)[0], 0)
        for arguments in ((), ("/nowhere",), (tempfile.gettempdir() + "/", "--what"), ("--exact-index", self.root)):
            self.assertEqual(run(*arguments)[0], 2, arguments)
        for name in [*(f"t-0/{name}" for name in os.listdir(partition)), "recovery-point-offset-checkpoint"]:
            code, out = run("dump", "--json", "--records", os.path.join(self.root, name))
            self.assertTrue(code == 0 and all(map(json.loads, out.splitlines())) and out, name)
        self.assertEqual(run("dump", __file__)[0], 2)
        path = "t-0/00000000000000000004.log"
        self.put(path, flipped(self.get(path), 900))
        code, out = run(self.root)
        self.assertEqual(code, 1)
        self.assertIn("batch.crc", out)
        os.remove(os.path.join(partition, "leader-epoch-checkpoint"))
        self.make({0: [plain(0) + bytes(99)]})
        self.assertEqual((run(partition)[0], run("--strict", partition)[0]), (0, 1))


if __name__ == "__main__":
    unittest.main()
