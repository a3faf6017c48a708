"""The rules of a whole log directory: its checkpoints against its partitions (Kafka's file format, 2.4 and 2.7)."""

import os

from . import FormatError, checkpoints
from .check_partition import DIRECTORY_NAME, FILE_NAME, PartitionCheck
from .segment import map_file

_LONGEST_NAME = 255


class LogDirectory:
    """The files of the log directory itself."""

    def __init__(self, path, report):
        self.path, self.report, self.offsets = path, report, {}
        for name in checkpoints.OFFSET_CHECKPOINTS:
            self.offsets[name] = self._read(name, checkpoints.read_offset_checkpoint) or {}
        self._read("meta.properties", checkpoints.read_meta_properties)
        self.clean = self._read(".kafka_cleanshutdown", checkpoints.read_clean_shutdown) is not None

    def _read(self, name, reader):
        path = os.path.join(self.path, name)
        if not os.path.exists(path):
            return None
        try:
            return reader(map_file(path))
        except (FormatError, OSError) as error:
            self.report.problem("checkpoint.file", path, str(error))
            return None

    def check(self, options):
        """Every partition in it, and the checkpoints."""
        known = {*checkpoints.OFFSET_CHECKPOINTS, "meta.properties", ".kafka_cleanshutdown", ".lock"}
        partitions = set()
        for name in sorted(os.listdir(self.path)):
            path, match = os.path.join(self.path, name), DIRECTORY_NAME.fullmatch(name)
            if not os.path.isdir(path):
                if name not in known:
                    self.report.note("file.unknown", path, "not a file of the format")
            elif not match:
                self.report.note("directory.unknown", path, "not a partition's directory")
            elif match["state"] == "delete":
                self.report.note("directory.deleted", path, "awaits removal, not checked")
            else:
                if len(os.fsencode(name)) > _LONGEST_NAME:
                    self.report.problem("directory.name", path, f"longer than {_LONGEST_NAME}")
                if match["state"] is None:
                    partitions.add((match["topic"], int(match["partition"])))
                self.check_partition(path, options)
        for name, offsets in self.offsets.items():
            for topic, partition in offsets.keys() - partitions:
                self.report.note("checkpoint.stray", os.path.join(self.path, name), f"no partition {topic}-{partition}")

    def check_partition(self, path, options):
        """One partition, and its lines in the checkpoints. A future or stray replica has none."""
        match = DIRECTORY_NAME.fullmatch(os.path.basename(path))
        key = (match["topic"], int(match["partition"])) if match and match["state"] is None else None
        offset = {name.split("-offset")[0]: offsets.get(key) for name, offsets in self.offsets.items()}
        start = offset["log-start"]
        facts = PartitionCheck(path, options, self.report, start or 0, self.clean).run()
        if facts is None:
            return
        log_start = max(facts.first_base, start or 0)
        if start is not None:
            if start > facts.log_end:
                self.report.problem("checkpoint.log-start", path, f"log start {start}, log end {facts.log_end}")
            elif start <= facts.first_base:
                self.report.note("checkpoint.log-start", path, f"log start {start}, first segment {facts.first_base}")
        for name in ("recovery-point", "replication", "cleaner"):
            if offset[name] is None:
                continue
            if offset[name] > facts.log_end:
                self.report.problem(f"checkpoint.{name}", path, f"{name} {offset[name]}, log end {facts.log_end}")
            elif offset[name] < log_start and name != "cleaner":
                # The files are written one after the other: only a clean shutdown makes them agree.
                report = self.report.problem if self.clean else self.report.note
                report(f"checkpoint.{name}", path, f"{name} {offset[name]}, log start {log_start}")


def kind_of(path):
    """"partition", "log" or None: what sort of directory this is."""
    names = os.listdir(path)
    if "partition.metadata" in names or any(FILE_NAME.fullmatch(name) for name in names):
        return "partition"
    if "meta.properties" in names or any(name in names for name in checkpoints.OFFSET_CHECKPOINTS):
        return "log"
    return "log" if any(DIRECTORY_NAME.fullmatch(name) for name in names) else None


def check(path, options, report):
    """A partition's directory or a log directory. ValueError if it is neither."""
    path = os.path.normpath(path)
    kind = kind_of(path)
    if kind is None:
        raise ValueError(f"{path}: neither a partition's directory nor a log directory")
    if kind == "log":
        LogDirectory(path, report).check(options)
    else:
        LogDirectory(os.path.dirname(os.path.abspath(path)), report).check_partition(path, options)
