"""The text files of a log directory and of a partition's directory (Kafka's file format, 2.2 and 2.4)."""

import base64
import json
import re

from . import FormatError

OFFSET_CHECKPOINTS = (
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
    "cleaner-offset-checkpoint",
)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)")


def _number(text):
    if not _NUMBER.fullmatch(text):
        raise FormatError(f"no number: {text!r}")
    return int(text)


def _text(data):
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise FormatError("not UTF-8") from None


def _entries(data, fields):
    """Line 1 the version 0, line 2 the count, then one entry a line."""
    text = _text(data)
    *lines, rest = text.split("\n")
    if len(lines) < 2 or rest:
        raise FormatError("the file is cut")
    if lines[0] != "0":
        raise FormatError(f"version {lines[0]!r}")
    if _number(lines[1]) != len(lines) - 2:
        raise FormatError(f"{len(lines) - 2} entries, the count says {lines[1]}")
    rows = [line.split(" ") for line in lines[2:]]
    if any(len(row) != fields for row in rows):
        raise FormatError(f"a line does not have {fields} fields")
    return rows


def read_leader_epochs(data):
    """[(epoch, start offset)]: both rise: a new entry removes those whose epoch or start is not lower."""
    entries = [(_number(epoch), _number(start)) for epoch, start in _entries(data, 2)]
    if any(epoch < 0 or start < 0 for epoch, start in entries):
        raise FormatError("a negative epoch or offset")
    for earlier, later in zip(entries, entries[1:]):
        if later[0] <= earlier[0] or later[1] <= earlier[1]:
            raise FormatError(f"epoch {later[0]} from {later[1]} after epoch {earlier[0]} from {earlier[1]}")
    return entries


def read_offset_checkpoint(data):
    """{(topic, partition): offset}"""
    offsets = {}
    for topic, partition, offset in _entries(data, 3):
        key = topic, _number(partition)
        if key in offsets:
            raise FormatError(f"{topic} {partition} is there twice")
        offsets[key] = _number(offset)
        if key[1] < 0 or offsets[key] < 0:
            raise FormatError(f"a negative number: {topic} {partition} {offset}")
    return offsets


def read_partition_metadata(data):
    """The topic id: 16 bytes."""
    match = re.fullmatch(r"version: 0\ntopic_id: ([A-Za-z0-9_-]{22})\n?", _text(data))
    if not match:
        raise FormatError("not `version: 0` and `topic_id: <22 characters of base64url>`")
    topic_id = base64.urlsafe_b64decode(match[1] + "==")
    if base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode() != match[1]:
        raise FormatError(f"{match[1]} is no exact base64url of 16 bytes")
    return topic_id


def read_meta_properties(data):
    """{key: value} with version=1, cluster.id, node.id and directory.id."""
    properties = {}
    for line in _text(data).splitlines():
        if line.strip() and not line.lstrip().startswith(("#", "!")):
            key, separator, value = line.partition("=")
            if not separator or key.strip() in properties:
                raise FormatError(f"bad line {line!r}")
            properties[key.strip()] = value.strip()
    missing = {"version", "cluster.id", "node.id", "directory.id"} - properties.keys()
    if missing or properties["version"] != "1":
        raise FormatError(f"missing {', '.join(sorted(missing))}" if missing else f"version {properties['version']}")
    if _number(properties["node.id"]) < 0:
        raise FormatError(f"node.id {properties['node.id']}")
    return properties


def _json_object(data, **types):
    try:
        value = json.loads(_text(data))
    except json.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error}") from None
    if not isinstance(value, dict) or any(type(value.get(name)) is not kind for name, kind in types.items()):
        raise FormatError(f"not a JSON object with {', '.join(types)}")
    return value


def read_clean_shutdown(data):
    """{"version": 0, "brokerEpoch": N}"""
    value = _json_object(data, version=int, brokerEpoch=int)
    if value["version"] != 0:
        raise FormatError(f"version {value['version']}")
    return value


def read_quorum_state(data):
    """leaderId, leaderEpoch, votedId and data_version, perhaps more."""
    return _json_object(data, leaderId=int, leaderEpoch=int, votedId=int, data_version=int)
