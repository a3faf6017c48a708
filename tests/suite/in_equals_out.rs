//! What goes in comes out: key, headers, timestamp, the value's bytes and how it was given; now, after a restart, and after a copy.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::value::RawValue;
use tidegate_client::{Client, Fetch, Header, NewRecord, NewTopic, ProduceOptions, Record, Value, batch};
use tidegate_tests::http::Request;
use tidegate_tests::process::Process;
use tidegate_types::Codec;

const PARTITIONS: u32 = 3;
/// Requests in a run; each brings up to a dozen records.
const REQUESTS: usize = 120;

/// JSON texts that a parser would change, lose or choke on.
const NASTY_JSON: [&str; 24] = [
    "null",
    "true",
    "0",
    "-0",
    "-0.0",
    "1e400",
    "1E-400",
    "1.10",
    "1234567890123456789012345",
    "-9223372036854775809",
    "0.1000000000000000055511151231257827021181583404541015625",
    "\"\"",
    r#""\u0000""#,
    r#""\ud800""#,
    r#""\udc00\ud800 \uD83D\uDE00""#,
    r#""\/ / \u002f""#,
    "\"\u{2028}\u{feff}\u{10ffff}\"",
    "[]",
    "{}",
    r#"{"a":1,"a":2}"#,
    r#"{"":{"":[]}}"#,
    "{ \"spaces\" :\t[ 1 ,2 ] }",
    r#"{"__proto__":null,"value":{"tombstone":true}}"#,
    r#""订单组""#,
];

fn json_text() -> impl Strategy<Value = String> {
    let nested = (1_usize..128).prop_map(|depth| format!("{}7{}", "[".repeat(depth), "]".repeat(depth)));
    let text = any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap());
    let leaf = prop_oneof![prop::sample::select(&NASTY_JSON[..]).prop_map(str::to_owned), text];
    let tree = leaf.clone().prop_recursive(4, 24, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", ")));
        let fields = prop::collection::vec((any::<String>(), inner), 0..4);
        let object = fields.prop_map(|fields| {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{}:{value}", serde_json::to_string(name).unwrap())).collect();
            format!("{{{}}}", fields.join(","))
        });
        prop_oneof![list, object]
    });
    prop_oneof![3 => leaf, 1 => nested, 2 => tree]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => json_text().prop_map(|text| Value::Json(RawValue::from_string(text).unwrap())),
        2 => prop_oneof![Just(String::new()), any::<String>()].prop_map(Value::Text),
        2 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(bytes.into())),
        1 => Just(Value::Tombstone),
    ]
}

fn bytes_or_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just("订单组".as_bytes().to_vec()),
        Just(b"..".to_vec()),
        any::<String>().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 1..20),
    ]
}

fn record() -> impl Strategy<Value = NewRecord> {
    let names = prop_oneof![Just(String::new()), Just("again".to_owned()), Just("Again".to_owned()), any::<String>()];
    let header = (names, prop::option::of(bytes_or_text()));
    let headers = prop::collection::vec(header, 0..5);
    // 2^53 − 1 is beyond any clock; what a topic accepts by default ends an hour after now.
    let timestamp = prop::option::of(prop_oneof![Just(0), Just(1), 0_i64..1_700_000_000_000]);
    (prop::option::of(bytes_or_text()), value(), headers, timestamp, 0..PARTITIONS).prop_map(
        |(key, value, headers, timestamp, partition)| NewRecord {
            key: key.map(Into::into),
            value,
            headers: headers.into_iter().map(|(name, value)| Header { name, value: value.map(Into::into) }).collect(),
            timestamp,
            partition: Some(partition),
        },
    )
}

/// What must come out, by partition and offset.
type Model = BTreeMap<(u32, u64), Record>;

/// Sends a request's records in one of the ways there are, and notes where they ended up.
async fn produce(client: &Client, model: &mut Model, way: usize, mut records: Vec<NewRecord>) {
    let options = ProduceOptions::default();
    let positions: Vec<(u32, u64, i64)> = if way.is_multiple_of(3) {
        let partition = records[0].partition.unwrap();
        for record in &mut records {
            record.timestamp = Some(record.timestamp.unwrap_or(1_600_000_000_000));
        }
        let packed = batch::encode(&records, Codec::ALL[way / 3 % Codec::ALL.len()]).unwrap();
        let appended = client.produce_batches("in", partition, packed, &options).await.unwrap();
        let offsets = appended.base_offset.unwrap()..=appended.last_offset.unwrap();
        offsets.zip(&records).map(|(offset, record)| (partition, offset, record.timestamp.unwrap())).collect()
    } else {
        let produced = client.produce("in", &records, &options).await.unwrap();
        assert_eq!(produced.durability, "fsync");
        produced.results.iter().map(|at| (at.partition, at.offset, at.timestamp)).collect()
    };
    assert_eq!(positions.len(), records.len());
    for ((partition, offset, timestamp), sent) in positions.into_iter().zip(records) {
        assert!(sent.timestamp.is_none_or(|own| own == timestamp), "its own timestamp is kept");
        let stored = Record { partition, offset, timestamp, key: sent.key, value: sent.value, headers: sent.headers };
        assert!(model.insert((partition, offset), stored).is_none(), "an offset is given once");
    }
}

/// Everything in a topic, as JSON fetches give it.
async fn everything(client: &Client, topic: &str) -> Model {
    let mut all = Model::new();
    for partition in 0..PARTITIONS {
        let mut next = 0;
        loop {
            let fetched = client.fetch(topic, partition, &Fetch { max_records: Some(97), ..Fetch::from_offset(next) }).await.unwrap();
            if fetched.records.is_empty() {
                assert!(fetched.caught_up && fetched.high_watermark == next);
                break;
            }
            next = fetched.next_offset;
            all.extend(fetched.records.into_iter().map(|record| ((partition, record.offset), record)));
        }
    }
    all
}

#[track_caller]
fn assert_same(model: &Model, found: &Model, when: &str) {
    for (at, wanted) in model {
        assert_eq!(Some(wanted), found.get(at), "{when}, at {at:?}");
    }
    assert_eq!(model.len(), found.len(), "{when}: nothing else is there");
}

/// Copies every partition to the same one of another topic, as stored batches, in pieces.
async fn copy(client: &Client, from: &str, to: &str) {
    for partition in 0..PARTITIONS {
        let mut next = 0;
        loop {
            let fetched =
                client.fetch_batches(from, partition, &Fetch { max_bytes: Some(4096), ..Fetch::from_offset(next) }).await.unwrap();
            if fetched.bytes.is_empty() {
                break;
            }
            next = fetched.next_offset;
            client.produce_batches(to, partition, fetched.bytes, &ProduceOptions::default()).await.unwrap();
        }
    }
}

/// A promise: what goes in comes out, whatever it is and however it was sent; after a restart too, and after copying its batches elsewhere.
#[tokio::test]
async fn records_come_out_as_they_went_in() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let client = Client::new(&node.url()).unwrap();
    let topic =
        NewTopic { partitions: Some(PARTITIONS), config: [("retention.ms".to_owned(), "-1".to_owned())].into(), ..NewTopic::default() };
    client.create_topic("in", &topic).await.unwrap();

    let mut runner = TestRunner::default();
    let requests = prop::collection::vec(prop::collection::vec(record(), 1..12), REQUESTS..=REQUESTS);
    let requests = requests.new_tree(&mut runner).unwrap().current();
    let mut model = Model::new();
    for (way, records) in requests.into_iter().enumerate() {
        produce(&client, &mut model, way, records).await;
    }
    assert_same(&model, &everything(&client, "in").await, "at once");

    node.kill().unwrap();
    let node = Process::start(data.path()).unwrap();
    let client = Client::new(&node.url()).unwrap();
    assert_same(&model, &everything(&client, "in").await, "after a kill");

    client.create_topic("copy", &topic).await.unwrap();
    copy(&client, "in", "copy").await;
    assert_same(&model, &everything(&client, "copy").await, "in the copy");
}

/// A promise: a raw body, its key, headers and type come out as they went in, alone and among JSON; and each kind of value keeps its kind.
#[test]
fn raw_bodies_come_out_as_they_went_in() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    Request::json("/v1/topics", r#"{"name":"raw"}"#).send(node.address()).unwrap();
    let post = || Request::new("POST", "/v1/topics/raw/raw");
    let form = "application/x-www-form-urlencoded";
    let cases: [(Request, &[u8], &str, &str); 7] = [
        (post().header("content-type", "application/json"), b"{ \"t\" : 1.10 }", "value", "application/json"),
        (post().header("content-type", "text/plain; charset=utf-8"), "gr\u{fc}n".as_bytes(), "text", "text/plain; charset=utf-8"),
        (post().header("content-type", "image/png"), b"\x89PNG\r\n\x1a\n\0", "base64", "image/png"),
        (post().header("content-type", "text/plain"), b"\xff\xfe", "base64", "text/plain"),
        (post().header("content-type", form), b"a=b", "base64", "application/octet-stream"),
        (post(), b"", "base64", "application/octet-stream"),
        (post().header("content-type", "application/cloudevents+json"), b"null", "value", "application/cloudevents+json"),
    ];
    for (offset, (request, body, kind, media_type)) in cases.into_iter().enumerate() {
        let request =
            request.header("record-key", "a key").header("record-timestamp", "1600000000000").header("record-header-Unit", "C").body(body);
        let produced = request.send(node.address()).unwrap();
        assert_eq!((produced.status, &produced.json()["results"][0]["offset"]), (200, &offset.into()), "{}", produced.text());

        let alone = tidegate_tests::http::get(node.address(), &format!("/v1/topics/raw/partitions/0/records/{offset}")).unwrap();
        assert_eq!((alone.status, alone.body.as_slice()), (200, body));
        assert_eq!(alone.header("content-type"), Some(media_type));
        assert_eq!((alone.header("record-key"), alone.header("record-timestamp")), (Some("a key"), Some("1600000000000")));
        assert_eq!(alone.header("x-content-type-options"), Some("nosniff"));

        let listed = tidegate_tests::http::get(node.address(), &format!("/v1/topics/raw/partitions/0/records?offset={offset}")).unwrap();
        let record = &listed.json()["records"][0];
        assert!(record.get(kind).is_some(), "{kind}: {record}");
        assert!(record["headers"].as_array().unwrap().contains(&serde_json::json!({"name": "unit", "value": "C"})), "{record}");
    }
}
