"""What the checks found, and how they are to run."""

from collections import Counter
from dataclasses import dataclass

_SHOWN = 20  # findings of one kind in one file


@dataclass
class Options:
    """`--help` of verify.py says what each is for."""

    crc: bool = True
    records: bool = True
    contiguous: bool = False
    index_interval: int | None = None
    exact_index: bool = False
    producer_expiration_ms: int = 86_400_000
    lookups: int = 500


class Report:
    """Problems break a rule; notes are what cannot be judged, or is allowed but worth knowing."""

    def __init__(self):
        self.findings, self.counts, self._seen = [], Counter(), Counter()

    def problem(self, code, path, message, severity="problem"):
        self.counts[severity + "s"] += 1
        self._seen[code, path] += 1
        if self._seen[code, path] <= _SHOWN:
            self.findings.append({"severity": severity, "code": code, "path": path, "message": message})

    def note(self, code, path, message):
        self.problem(code, path, message, "note")

    def codes(self, severity="problem"):
        return {finding["code"] for finding in self.findings if finding["severity"] == severity}

    def lines(self):
        for finding in self.findings:
            yield "{severity}: {path}: {message} [{code}]".format(**finding)
        for (code, path), times in self._seen.items():
            if times > _SHOWN:
                yield f"… {path}: {times - _SHOWN} more [{code}]"
