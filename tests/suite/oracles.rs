//! The files we write are Kafka's: two decoders that are not ours read them, and batches that are not ours are accepted.

use std::collections::BTreeMap;

use tidegate_client::{Client, Fetch, Header, NewRecord, NewTopic, ProduceOptions, Value, batch};
use tidegate_tests::oracle::{self, CODECS, OracleRecord};
use tidegate_tests::process::Process;
use tidegate_types::Codec;

/// A topic whose batches are packed by the node with this codec, under the name that configs use.
async fn topic_packed_with(client: &Client, codec: Codec) -> String {
    let name = format!("by-{}", codec.name());
    // Segments as small as they can be, so that there are several.
    let config = [("compression.type", codec.name()), ("segment.bytes", "1048576")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    client.create_topic(&name, &NewTopic { partitions: Some(1), config: config.into(), ..NewTopic::default() }).await.unwrap();
    name
}

/// Records of every shape, and enough of them to fill segments.
fn records() -> Vec<NewRecord> {
    let mut records = vec![
        NewRecord::text("plain").key("k"),
        NewRecord::text("").key(""),
        NewRecord::new(Value::Tombstone).key("gone"),
        NewRecord::bytes(vec![0, 255, 10]).key(vec![0xff, 0xfe]).timestamp(0),
        NewRecord::text("订单").header("again", "1").header("again", "2").header("", "").timestamp(1_600_000_000_000),
    ];
    records[4].headers.push(Header { name: "null".to_owned(), value: None });
    records.extend((0..300).map(|n| NewRecord::text(format!("{n} ").repeat(1 + n % 500)).key(format!("key {}", n % 7))));
    records
}

/// What was sent, in the oracles' shape.
fn as_oracle(codec: &str, offset: u64, timestamp: i64, record: &NewRecord) -> OracleRecord {
    OracleRecord {
        codec: codec.to_owned(),
        offset,
        timestamp,
        key: record.key.as_ref().map(|key| key.to_vec()),
        value: record.value.as_bytes().map(<[u8]>::to_vec),
        headers: record.headers.iter().map(|h| (h.name.clone(), h.value.as_ref().map(|v| v.to_vec()))).collect(),
    }
}

/// The crate keeps headers in a map: of those with the same name only the last, where the first stood.
fn without_repeated_headers(mut record: OracleRecord) -> OracleRecord {
    let mut kept: Vec<(String, Option<Vec<u8>>)> = Vec::new();
    for (name, value) in record.headers {
        match kept.iter_mut().find(|(known, _)| *known == name) {
            Some((_, last)) => *last = value,
            None => kept.push((name, value)),
        }
    }
    record.headers = kept;
    record
}

/// Records by topic, whatever files they are in, in the order of their offsets.
fn by_partition(files: BTreeMap<String, Vec<OracleRecord>>) -> BTreeMap<String, Vec<OracleRecord>> {
    let mut partitions = BTreeMap::<String, Vec<OracleRecord>>::new();
    for (file, records) in files {
        let (partition, segment) = file.split_once('/').unwrap();
        assert_eq!(segment, format!("{:020}.log", records[0].offset), "a segment is named for its first offset");
        partitions.entry(partition.to_owned()).or_default().extend(records);
    }
    partitions
}

/// A promise: kafka-python and kafka-protocol read every file that a node writes, with all five codecs, and read what was sent.
#[tokio::test]
async fn others_read_what_we_write() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let client = Client::new(&node.url()).unwrap();
    let mut wanted = BTreeMap::<String, Vec<OracleRecord>>::new();
    for (codec, oracle_name) in Codec::ALL.into_iter().zip(CODECS) {
        let topic = topic_packed_with(&client, codec).await;
        let partition = wanted.entry(format!("{topic}-0")).or_default();
        for _ in 0..12 {
            let records = records();
            let produced = client.produce(&topic, &records, &ProduceOptions::default()).await.unwrap();
            let sent = produced.results.iter().zip(&records).map(|(at, record)| as_oracle(oracle_name, at.offset, at.timestamp, record));
            partition.extend(sent);
        }
        // Packed by the client, and stored as it is in a topic that leaves packing to producers.
        let records: Vec<_> = records().into_iter().map(|record| NewRecord { timestamp: Some(7), ..record }).collect();
        let packed = batch::encode(&records, codec).unwrap();
        client.ensure_topic("as-sent", &NewTopic { partitions: Some(1), ..NewTopic::default() }).await.unwrap();
        let at = client.produce_batches("as-sent", 0, packed, &ProduceOptions::default()).await.unwrap();
        let sent = (at.base_offset.unwrap()..).zip(&records).map(|(offset, record)| as_oracle(oracle_name, offset, 7, record));
        wanted.entry("as-sent-0".to_owned()).or_default().extend(sent);
    }
    node.kill().unwrap();

    let by_python = by_partition(oracle::decode_with_python(data.path()).unwrap());
    let by_crate = by_partition(oracle::decode_with_crate(data.path()).unwrap());
    assert_eq!(by_python.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (partition, wanted) in wanted {
        let (python, other) = (&by_python[&partition], &by_crate[&partition]);
        assert_eq!((python.len(), other.len()), (wanted.len(), wanted.len()), "{partition}");
        for ((wanted, python), other) in wanted.into_iter().zip(python).zip(other) {
            assert_eq!(&wanted, python, "{partition}: kafka-python");
            assert_eq!(&without_repeated_headers(wanted), other, "{partition}: kafka-protocol");
        }
    }
    let segments = oracle::log_files(&data.path().join("by-uncompressed-0")).unwrap().len();
    assert!(segments > 1, "the test meant to fill several segments, not {segments}");
}

/// A promise: batches that kafka-python makes are accepted, with all five codecs, and come out as the same records, as JSON and as batches.
#[tokio::test]
async fn we_accept_what_others_make() {
    let (data, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Process::start(data.path()).unwrap();
    let client = Client::new(&node.url()).unwrap();
    client.create_topic("theirs", &NewTopic { partitions: Some(5), ..NewTopic::default() }).await.unwrap();
    let made = oracle::make_with_python(scratch.path()).unwrap();
    for (partition, made) in (0..).zip(&made) {
        let sent = made.bytes.clone().into();
        let at = client.produce_batches("theirs", partition, sent, &ProduceOptions::default()).await.unwrap();
        assert_eq!((at.base_offset, at.last_offset), (Some(0), Some(made.records.len() as u64 - 1)), "{}", made.codec);

        let fetch = Fetch { max_records: Some(10_000), max_bytes: Some(8 << 20), ..Fetch::from_offset(0) };
        let fetched = client.fetch("theirs", partition, &fetch).await.unwrap();
        assert_eq!(fetched.records.len(), made.records.len(), "{}", made.codec);
        for (offset, (record, wanted)) in fetched.records.iter().zip(&made.records).enumerate() {
            assert_eq!((record.offset, record.timestamp), (offset as u64, wanted.timestamp));
            assert_eq!((record.key.as_deref(), record.value.as_bytes()), (wanted.key.as_deref(), wanted.value.as_deref()));
            let headers: Vec<_> = record.headers.iter().map(|h| (h.name.clone(), h.value.as_ref().map(|v| v.to_vec()))).collect();
            assert_eq!(headers, wanted.headers);
        }
        // What is stamped lies outside the records and their CRC: the rest is theirs to the byte.
        let stored = client.fetch_batches("theirs", partition, &fetch).await.unwrap();
        assert_eq!(stored.bytes.len(), made.bytes.len());
        assert!(stored.batches().all(|batch| batch.unwrap().verify().is_ok()));
    }
    node.kill().unwrap();
    let read_back = by_partition(oracle::decode_with_python(data.path()).unwrap());
    assert_eq!(read_back.values().map(Vec::len).sum::<usize>(), made.iter().map(|made| made.records.len()).sum::<usize>());
}
