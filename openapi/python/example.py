"""Makes a topic, produces two records, fetches them back and compares; then does something wrong and reads the problem.

Run by `openapi/python.sh URL`.
"""

import sys
import time
import uuid

from tidegate_client import Client
from tidegate_client.api.records import fetch_records, produce_to_partition
from tidegate_client.api.topics import create_topic, delete_topic, get_topic
from tidegate_client.models import (
    CreateTopic,
    FetchResponse,
    Problem,
    ProduceRecord,
    ProduceRequest,
    ProduceResponse,
    RecordHeader,
    TopicDetail,
)


def main(url: str) -> None:
    topic = f"example-python-{uuid.uuid4()}"
    with Client(base_url=url) as client:
        # A call gives what the status says: what was asked for, or a problem. So its type is to be asked for.
        made = create_topic.sync(client=client, body=CreateTopic(name=topic, partitions=1))
        assert isinstance(made, TopicDetail), made
        assert made.name == topic
        assert len(made.partitions) == 1
        try:
            produce_and_fetch(client, topic)
        finally:
            answer = delete_topic.sync_detailed(topic, client=client)
            assert answer.status_code == 204, answer
    print("python: produced and fetched 2 records")


def produce_and_fetch(client: Client, topic: str) -> None:
    records = [
        ProduceRecord(
            key="ключ 1",
            headers=[RecordHeader(name="trace", value="abc"), RecordHeader(name="trace", base64="/wA="), RecordHeader(name="empty")],
            timestamp=int(time.time() * 1000),
            value={"total": 10, "largest": 2**53 - 1, "nothing": None, "list": [1.5, "x", True]},
        ),
        ProduceRecord(key="k2", text="plain text"),
    ]
    produced = produce_to_partition.sync(topic, 0, client=client, body=ProduceRequest(records=records))
    assert isinstance(produced, ProduceResponse), produced
    assert produced.durability == "fsync"
    assert [result.offset for result in produced.results] == [0, 1]

    fetched = fetch_records.sync(topic, 0, client=client, offset=0, max_wait_ms=1000)
    assert isinstance(fetched, FetchResponse), fetched
    assert len(fetched.records) == len(records)
    assert fetched.next_offset == 2
    for given, result, record in zip(records, produced.results, fetched.records):
        wanted = {**given.to_dict(), "partition": 0, "offset": result.offset, "timestamp": result.timestamp}
        assert record.to_dict() == wanted, (record, wanted)

    problem = get_topic.sync(f"{topic}-that-is-not-there", client=client)
    assert isinstance(problem, Problem), problem
    assert problem.status == 404
    assert problem.code == "topic-not-found"
    assert problem.retryable is False


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: example.py URL")
    main(sys.argv[1].rstrip("/"))
