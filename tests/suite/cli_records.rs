//! Records in and out on the command line, against a running node: what goes in by any form comes out by any form, and failures say exactly how far it came.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use serde_json::value::RawValue;
use tidegate_client::{Client, Fetch, Header, NewRecord, NewTopic, ProduceOptions, Record, Value, batch};
use tidegate_tests::flights;
use tidegate_tests::process::{Process, binary};
use tidegate_types::Codec;

/// How long a verb may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);
const TIME: i64 = 1_763_709_600_000;

/// A node, and hands to reach it with.
pub(crate) struct Site {
    pub(crate) node: Process,
    pub(crate) client: Client,
    pub(crate) folder: tempfile::TempDir,
}

/// What a verb has come to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self
    }

    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.err);
        for word in words {
            assert!(self.err.contains(word), "'{word}' is not in: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = Process::start(&folder.path().join("data")).unwrap();
        let client = Client::new(&node.url()).unwrap();
        Self { node, client, folder }
    }

    pub(crate) async fn topic(&self, name: &str, partitions: u32) {
        let topic =
            NewTopic { partitions: Some(partitions), config: [("retention.ms".to_owned(), "-1".to_owned())].into(), ..NewTopic::default() };
        self.client.create_topic(name, &topic).await.unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_at(&self.node.url(), arguments)
    }

    /// A verb that talks to what listens at `url`, which stands before the node.
    #[expect(clippy::unused_self, reason = "only who has a site has something to talk to")]
    pub(crate) fn command_at(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary().unwrap());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
            command.env_remove(name);
        }
        command.args(arguments).args(["--server", url]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a verb to its end with `input`, which it need not read.
    pub(crate) fn run(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Ran {
        let mut child = self.command(arguments).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.into());
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let ran = end(child);
        writer.join().unwrap();
        ran
    }

    /// The records of a topic's partition, as JSON fetches give them.
    pub(crate) async fn records(&self, topic: &str, partition: u32) -> Vec<Record> {
        let fetch = Fetch { max_records: Some(10_000), max_bytes: Some(64 << 20), ..Fetch::from_offset(0) };
        self.client.fetch(topic, partition, &fetch).await.unwrap().records
    }
}

/// Waits for the end of a verb, and for all it has to say.
pub(crate) fn end(mut child: Child) -> Ran {
    let (out, mut err) = (child.stdout.take(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        out.map_or(Ok(0), |mut out| out.read_to_end(&mut bytes)).map(|_| bytes).unwrap()
    });
    let err = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text).unwrap()
    });
    let started = Instant::now();
    let status = loop {
        // Nothing tells a parent within a time that a child is gone.
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if started.elapsed() > PATIENCE => {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    Ran { code: status.code(), out: out.join().unwrap(), err: err.join().unwrap() }
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

fn json_value(text: &str) -> Value {
    Value::Json(RawValue::from_string(text.to_owned()).unwrap())
}

/// A promise: every form of input makes the records that it says, with key, headers, timestamp and kind of value.
#[tokio::test]
async fn every_input_form() {
    let site = Site::new();
    let bytes = |value: &[u8]| NewRecord::bytes(value.to_vec());
    let json = |text: &str| NewRecord::new(json_value(text));
    let object = r#"{"key":"k","value":{ "n":1234567890123456789012345 },"headers":[{"name":"h","value":"1"},{"name":"h"}],"timestamp":5,"offset":9}"#;
    let mut from_object = json(r#"{ "n":1234567890123456789012345 }"#).key("k").header("h", "1").timestamp(5);
    from_object.headers.push(Header { name: "h".to_owned(), value: None });
    let cases: [(&[&str], Vec<u8>, Vec<NewRecord>); 12] = [
        (&[], b"a\r\n\n\xff\nlast".to_vec(), vec![NewRecord::text("a\r"), NewRecord::text(""), bytes(b"\xff"), NewRecord::text("last")]),
        (&["-k", "K", "-H", "a=1", "-H", "a="], b"x\n".to_vec(), vec![NewRecord::text("x").key("K").header("a", "1").header("a", "")]),
        (&["--key-sep", ":"], b"k:v:w\n:\n".to_vec(), vec![NewRecord::text("v:w").key("k"), NewRecord::text("").key("")]),
        (&["-f", r"%T %k{hex}\t%v\0"], b"7 ff\ta\nb\0".to_vec(), vec![NewRecord::text("a\nb").key(vec![0xff]).timestamp(7)]),
        (&["-i", "ndjson"], format!("{object}\n\n").into_bytes(), vec![from_object.clone()]),
        (&["-i", "json"], format!("[\n{object},\n{object}]").into_bytes(), vec![from_object.clone(), from_object]),
        (
            &["-i", "json-values", "--key-field", "id"],
            b"{\"id\":7, \"x\":[1.10]}\n".to_vec(),
            vec![json("{\"id\":7, \"x\":[1.10]}").key("7")],
        ),
        (
            &["-i", "csv", "--key-field", "id", "--header-field", "unit", "--timestamp-field", "at"],
            b"id,unit,at\n1,C,1970-01-01T00:00:05Z\n".to_vec(),
            vec![json(r#"{"id":"1","unit":"C","at":"1970-01-01T00:00:05Z"}"#).key("1").header("unit", "C").timestamp(5_000)],
        ),
        (&["-i", "csv", "--infer", "--delimiter", ";"], b"a;b\n1.50;007\n".to_vec(), vec![json(r#"{"a":1.50,"b":"007"}"#)]),
        (&["-i", "raw"], b"all\nof it\n".to_vec(), vec![NewRecord::text("all\nof it\n")]),
        (&["-k", "gone", "--tombstone"], Vec::new(), vec![NewRecord::new(Value::Tombstone).key("gone")]),
        (&["--key-sep", "=", "-Z"], b"a=\nb=1\n".to_vec(), vec![NewRecord::new(Value::Tombstone).key("a"), NewRecord::text("1").key("b")]),
    ];
    for (number, (flags, input, wanted)) in cases.into_iter().enumerate() {
        for codec in ["none", "zstd"] {
            let topic = format!("in-{number}-{codec}");
            site.topic(&topic, 1).await;
            let ran = site.run(&[&["produce", &topic, "-z", codec][..], flags].concat(), input.clone()).ok();
            assert!(ran.out.is_empty() && ran.err.contains("s; partition 0: "), "{flags:?}: {ran:?}");
            let found = site.records(&topic, 0).await;
            let plain = |r: Record| (r.key, r.value, r.headers);
            let wanted_plain: Vec<_> = wanted.iter().map(|r| (r.key.clone(), r.value.clone(), r.headers.clone())).collect();
            for (record, wanted) in found.iter().zip(&wanted) {
                assert!(wanted.timestamp.is_none_or(|own| own == record.timestamp), "{flags:?}");
            }
            assert_eq!(found.into_iter().map(plain).collect::<Vec<_>>(), wanted_plain, "{flags:?}");
        }
    }
}

/// A promise: what a file has as lines, a topic gives back as the same file; the summary is an account for programs, too.
#[tokio::test]
async fn lines_in_lines_out() {
    let site = Site::new();
    site.topic("lines", 1).await;
    let text: String = (0..5_000).map(|n| format!("line {n} \t grün\r\n")).collect();
    let path = site.folder.path().join("lines.txt");
    std::fs::write(&path, &text).unwrap();
    let summary = site.run(&["produce", "lines", path.to_str().unwrap(), "-o", "json"], "").ok();
    let mut summary: serde_json::Value = serde_json::from_str(summary.text()).unwrap();
    summary["elapsed_ms"] = 0.into();
    let partitions = json!([{"partition": 0, "records": 5_000, "first_offset": 0, "last_offset": 4_999}]);
    let wanted = json!({"topic": "lines", "records": 5_000, "uncertain_records": 0, "failed_records": 0, "unbroken_to_line": 5_000, "elapsed_ms": 0,
        "partitions": partitions});
    assert_eq!(summary, wanted);
    let out = site.run(&["consume", "lines"], "").ok();
    assert!(out.text() == text && out.err.is_empty());

    let positions = site.run(&["produce", "lines", "-o", "ndjson"], "a\nb\n").ok();
    let positions: Vec<serde_json::Value> = positions.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(positions.iter().map(|p| p["offset"].as_u64()).collect::<Vec<_>>(), [Some(5_000), Some(5_001)]);
}

/// A promise: each form of output shows the same records in its own way, exactly so.
#[tokio::test]
async fn every_output_form() {
    let site = Site::new();
    site.topic("out", 1).await;
    let mut odd = NewRecord::new(json_value("{\n\"n\":1234567890123456789012345}")).header("h", "1").timestamp(TIME + 1);
    odd.headers.push(Header { name: "h".to_owned(), value: None });
    let records =
        [NewRecord::text("v\u{1b}").key("k").timestamp(TIME), odd, NewRecord::new(Value::Tombstone).key(vec![0xff]).timestamp(TIME + 2)];
    site.client.produce("out", &records, &ProduceOptions::default()).await.unwrap();
    let lines = [
        r#"{"partition":0,"offset":0,"timestamp":1763709600000,"key":"k","text":"v\u001b"}"#,
        r#"{"partition":0,"offset":1,"timestamp":1763709600001,"value":{ "n":1234567890123456789012345},"value_base64":"ewoibiI6MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NX0=","headers":[{"name":"h","value":"1"},{"name":"h"}]}"#,
        r#"{"partition":0,"offset":2,"timestamp":1763709600002,"key_base64":"/w==","tombstone":true}"#,
    ];
    let rows = "\
TIME                      PARTITION        OFFSET  KEY                   VALUE
2025-11-21T07:20:00.000Z          0             0  k                     v\\x1b
2025-11-21T07:20:00.001Z          0             1  -                     { \"n\":1234567890123456789012345}   h=1,h
2025-11-21T07:20:00.002Z          0             2  \\xff                  (tombstone)
";
    let yaml = "\
- partition: 0
  offset: 0
  timestamp: 1763709600000
  key: \"k\"
  text: \"v\\u001b\"
";
    let cases: [(&[&str], String); 9] = [
        (&[], "v\u{1b}\n{\n\"n\":1234567890123456789012345}\n\n".to_owned()),
        (&["-o", "ndjson"], lines.join("\n") + "\n"),
        (&["-o", "json"], format!("[\n{}\n]\n", lines.join(",\n"))),
        (&["-o", "wide"], rows.to_owned()),
        // What was asked for comes, also where nobody would get it unasked.
        (&["-o", "table"], rows.to_owned()),
        (&["-k", "k", "-F", "%o\\n"], "0\n".to_owned()),
        (&["-o", "yaml", "-n", "1"], yaml.to_owned()),
        (
            &["-f", r"%t/%p@%o %T{rfc3339} %K:%k{json} %V:%v{json} [%h]%%\n", "--from", "1", "--until", "2"],
            "out/0@1 2025-11-21T07:20:00.001Z -1:null 32:{ \"n\":1234567890123456789012345} [h=1,h]%\n".to_owned(),
        ),
        (&["-f", r"%k{hex}\t%v{base64}\x0a", "--from", "-1"], "ff\t\n".to_owned()),
    ];
    for (flags, wanted) in cases {
        let ran = site.run(&[&["consume", "out"][..], flags].concat(), "").ok();
        assert_eq!(ran.text(), wanted, "{flags:?}");
        assert_eq!(ran.err, "", "{flags:?}");
    }
    let tail = site.run(&["tail", "out", "-n", "1", "-F", "%o;"], "").ok();
    assert_eq!(tail.text(), "2;");
    assert_eq!(site.run(&["consume", "out", "--from", "end", "-o", "json"], "").ok().text(), "[]\n");
}

fn odd_records() -> Vec<NewRecord> {
    let texts = ["", "\0", "a\nb\r\n", "\u{2028}\u{feff}", "{}"];
    let jsons = ["null", "1234567890123456789012345", "-0.0", "1e400", r#""\ud800\u0000""#, r#"{"a":1,"a":2}"#, "[1 ,\n2]", "\"\u{9b}\""];
    let binary: [&[u8]; 3] = [b"", b"\xff\0\xfe", b"plain"];
    let values = texts.map(|t| Value::Text(t.to_owned())).into_iter().chain(jsons.map(json_value));
    let values = values.chain(binary.map(|b| Value::Bytes(b.to_vec().into()))).chain([Value::Tombstone, Value::Tombstone]);
    let keys: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"\xfe\n"), Some("订单\0".as_bytes())];
    let names = ["", "again", "again", "Again", "h\n"];
    let contents: [Option<bytes::Bytes>; 4] = [None, Some("".into()), Some(vec![0x80].into()), Some("=,".into())];
    let header = |index: usize| Header { name: names[index % 5].to_owned(), value: contents[index % 4].clone() };
    let record = |(index, value): (usize, Value)| NewRecord {
        key: keys[index % 4].map(|key| key.to_vec().into()),
        value,
        headers: (0..index % 7).map(header).collect(),
        timestamp: Some([0, 1, TIME][index % 3]),
        partition: None,
    };
    values.enumerate().map(record).collect()
}

/// A promise: a topic copied from one command to the other is the same topic: partitions, keys, headers, times, values and how they were given.
#[tokio::test]
async fn a_copy_is_exact() {
    let site = Site::new();
    site.topic("original", 3).await;
    for (partition, codec) in [(0, Codec::None), (1, Codec::Gzip), (2, Codec::Zstd)] {
        let packed = batch::encode(&odd_records(), codec).unwrap();
        site.client.produce_batches("original", partition, packed, &ProduceOptions::default()).await.unwrap();
    }
    for form in ["ndjson", "json"] {
        let out = site.run(&["consume", "original", "-o", form], "").ok();
        site.topic(form, 3).await;
        site.run(&["produce", form, "--input", form], out.out).ok();
        for partition in 0..3 {
            let (original, copy) = (site.records("original", partition).await, site.records(form, partition).await);
            assert_eq!(original.len(), odd_records().len());
            assert_eq!(original, copy, "{form}");
        }
    }
}

/// A promise: real rows out of CSV are the real objects, each where its key belongs, and are found by their key.
#[tokio::test]
async fn csv_of_flights() {
    let site = Site::new();
    site.topic("flights", 4).await;
    let flights = flights::sample().unwrap();
    let mut writer = csv::Writer::from_writer(Vec::new());
    for (index, flight) in flights.iter().enumerate() {
        // An object of the sample has its columns in order; a map of serde_json would sort them.
        let columns: Vec<(String, String)> = flight.json[1..flight.json.len() - 1]
            .split(",\"")
            .map(|field| {
                let (name, value) = field.trim_start_matches('"').split_once("\":").unwrap();
                (name.to_owned(), value.trim_matches('"').to_owned())
            })
            .collect();
        if index == 0 {
            writer.write_record(columns.iter().map(|(name, _)| name)).unwrap();
        }
        writer.write_record(columns.iter().map(|(_, value)| value)).unwrap();
    }
    let path = site.folder.path().join("flights.csv");
    std::fs::write(&path, writer.into_inner().unwrap()).unwrap();
    let ran = site.run(&["produce", "flights", path.to_str().unwrap(), "-i", "csv", "--infer", "--key-field", "tailnum"], "").ok();
    assert!(ran.err.starts_with("2,300 records in "), "{}", ran.err);

    let out = site.run(&["consume", "flights", "-f", r"%v\n"], "").ok();
    let mut found: Vec<&str> = out.text().lines().collect();
    let mut wanted: Vec<&str> = flights.iter().map(|flight| flight.json.as_str()).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);

    let tail_number = flights[0].tail_number.clone().unwrap();
    let of_key: Vec<&str> = flights.iter().filter(|f| f.tail_number.as_ref() == Some(&tail_number)).map(|f| f.json.as_str()).collect();
    let ran = site.run(&["find", "flights", "--key", &tail_number], "").ok();
    assert_eq!(ran.text().lines().collect::<Vec<_>>(), of_key);
    assert!(ran.err.contains("found:") && ran.err.contains("read in"), "{}", ran.err);
    let latest = site.run(&["find", "flights", "--key", &tail_number, "--latest", "--all-partitions"], "").ok();
    assert_eq!(latest.text().lines().collect::<Vec<_>>(), of_key[of_key.len() - 1..]);
    let none = site.run(&["find", "flights", "--key", "no such"], "");
    none.failed(3, &["no record has this key", "records of partition", "--all-partitions looks everywhere"]);
}

/// A promise: a key in another partition than its hash leads to is found by looking everywhere, and only so.
#[tokio::test]
async fn keys_elsewhere() {
    let site = Site::new();
    site.topic("t", 3).await;
    for partition in ["0", "1", "2"] {
        site.run(&["produce", "t", "-k", "key", "-p", partition], format!("{partition}\n")).ok();
    }
    let found = site.run(&["find", "t", "--key", "key"], "").ok();
    assert_eq!(found.text().lines().count(), 1);
    let everywhere = site.run(&["find", "t", "--key", "key", "--all-partitions"], "").ok();
    assert_eq!(everywhere.text(), "0\n1\n2\n");
    assert!(everywhere.err.contains("2 records outside partition"), "{}", everywhere.err);
}

/// A promise: `tail` shows the last records of all partitions in the order of their times; places lead to the records that they mean.
#[tokio::test]
async fn tails_and_places() {
    let site = Site::new();
    site.topic("t", 2).await;
    for n in 0..10_i64 {
        let record = NewRecord { partition: Some(u32::from(n % 3 == 0)), ..NewRecord::text(n.to_string()).timestamp(TIME + n * 1000) };
        site.client.produce("t", &[record], &ProduceOptions::default()).await.unwrap();
    }
    let out = |arguments: &[&str]| site.run(arguments, "").ok().text().replace('\n', " ");
    assert_eq!(out(&["tail", "t", "-n", "4"]), "6 7 8 9 ");
    assert_eq!(out(&["tail", "t", "-n", "2", "-p", "1"]), "6 9 ");
    assert_eq!(out(&["tail", "t", "-n", "0"]), "");
    assert_eq!(out(&["consume", "t", "--from", "@2025-11-21T07:20:07"]), "7 8 9 ");
    assert_eq!(out(&["consume", "t", "--until", "@2025-11-21T07:20:02Z"]), "1 0 ");
    assert_eq!(out(&["consume", "t", "--from", "-1"]), "8 9 ");
    assert_eq!(out(&["consume", "t", "-p", "0", "--from", "1", "--until", "3"]), "2 4 ");
    assert_eq!(out(&["consume", "t", "--from", "1h"]), "");
    assert_eq!(out(&["consume", "t", "-n", "3"]), "1 2 4 ");
    assert_eq!(out(&["consume", "t", "--follow", "--until", "@2025-11-21T07:20:04", "-p", "0"]), "1 2 ");
    assert_eq!(out(&["consume", "t", "--follow", "--until", "end"]).split_whitespace().count(), 10);
}

/// A promise: what is wrong with the flags, or what is named and not there, is said, with the exit code of its kind, before anything is sent.
#[tokio::test]
async fn refusals() {
    let site = Site::new();
    site.topic("t", 2).await;
    let cases: [(&[&str], i32, &[&str]); 28] = [
        (&["produce", "nowhere"], 3, &["no such topic"]),
        (&["consume", "nowhere"], 3, &["no such topic"]),
        (&["tail", "nowhere", "-f"], 3, &["no such topic"]),
        (&["find", "nowhere", "--key", "k"], 3, &["no such topic"]),
        (&["produce", "t", "-p", "2"], 3, &["no partition 2", "0 to 1"]),
        (&["consume", "t", "-p", "7"], 3, &["no partition 7"]),
        (&["consume", "t", "--from", "earliest"], 2, &["did you mean 'start'"]),
        (&["consume", "t", "--from", "2026-11-21T07:00"], 2, &["'@2026-11-21T07:00'"]),
        (&["consume", "t", "--from", "5"], 1, &["beyond the end"]),
        (&["consume", "t", "-f", "%k %q"], 2, &["character 4", "no '%q'"]),
        (&["consume", "t", "-o", "name"], 2, &["no names"]),
        (&["produce", "t", "-f", "%k%v\\n"], 2, &["between two fields"]),
        (&["produce", "t", "-i", "xml"], 2, &["json-values"]),
        (&["produce", "t", "/no/such/file"], 1, &["/no/such/file"]),
        (&["find", "t"], 2, &["--key"]),
        (&["consume", "t", "--from", "5", "--until", "2"], 2, &["--until 2 is before --from 5"]),
        (&["consume", "t", "--from", "1h", "--until", "2h"], 2, &["--until 2h is before --from 1h"]),
        (
            &["find", "t", "--key", "k", "--from", "@2026-11-21", "--until", "@2026-11-20"],
            2,
            &["is before --from @2026-11-21T00:00:00.000Z"],
        ),
        (&["consume", "t", "--from", "@2026-11-21T07:00[Nowhere/Land]"], 2, &["no such time zone"]),
        (&["consume", "t", "--from", "@2026-10-25T02:30[Europe/Berlin]"], 2, &["comes twice", "+02"]),
        (&["consume", "t", "-n", "abc"], 2, &["a number of records is wanted"]),
        (&["tail", "t", "-n", "1000000"], 2, &["100,000 at most", "consume --from -1000000"]),
        (&["tail", "t", "-p", "abc"], 2, &["a partition's number is wanted"]),
        (&["find", "t", "--key", "k", "-n", "0"], 2, &["1 or more"]),
        (&["find", "t", "--key-base64", "%%%"], 2, &["is no base64", "multiple of 4"]),
        (&["consume", "t", "-f"], 2, &["--follow"]),
        (&["consume", "-f", "t"], 2, &["TOPIC", "--follow"]),
        (&["tail", "t", "-f", "%v"], 2, &["the format of each record is -F"]),
    ];
    for (arguments, code, words) in cases {
        let ran = site.run(arguments, "x\n").failed(code, words);
        assert!(ran.out.is_empty(), "{arguments:?}");
    }
    let problem = site.run(&["consume", "nowhere", "-o", "ndjson"], "").failed(3, &[]);
    let problem: serde_json::Value = serde_json::from_str(&problem.err).unwrap();
    assert_eq!(problem["code"], "topic-not-found");
    assert!(site.records("t", 0).await.is_empty() && site.records("t", 1).await.is_empty());
}

/// A promise: a time with a zone in brackets is the time that clocks show there, wherever a time is taken.
#[tokio::test]
async fn zones_count() {
    let site = Site::new();
    site.topic("t", 1).await;
    // 07:00 to 09:00 in Berlin are 06:00 to 08:00 in UTC.
    let csv = "v,at\na,2026-11-21T07:00[Europe/Berlin]\nb,2026-11-21T08:00+01:00[Europe/Berlin]\nc,2026-11-21T08:00\n";
    site.run(&["produce", "t", "-i", "csv", "--timestamp-field", "at"], csv).ok();
    let times = site.run(&["consume", "t", "-f", r"%T{rfc3339} "], "").ok();
    assert_eq!(times.text(), "2026-11-21T06:00:00.000Z 2026-11-21T07:00:00.000Z 2026-11-21T08:00:00.000Z ");
    let offsets = |flags: &[&str]| site.run(&[&["consume", "t", "-f", "%o "], flags].concat(), "").ok().text().to_owned();
    assert_eq!(offsets(&["--from", "@2026-11-21T07:30[Europe/Berlin]"]), "1 2 ");
    assert_eq!(offsets(&["--until", "@2026-11-21T08:00[Europe/Berlin]"]), "0 ");
    let bad = site.run(&["produce", "t", "-i", "csv", "--timestamp-field", "at"], "v,at\na,2026-11-21T07:00[Nowhere/Land]\n");
    bad.failed(1, &["no such time zone"]);
    let trim = ["topic", "trim", "t", "--before", "@2026-11-21T08:00[Europe/Berlin]", "--yes", "-o", "name"];
    site.run(&trim, "").ok();
    assert_eq!(site.client.offsets("t", 0, None).await.unwrap().earliest_offset, 1);
}

/// A promise: what stands in a node's files is shown as one document of each format, with the names that `consume` has; what is wrong with the path is
/// said with its own exit code, and a node that holds the files is noticed.
#[tokio::test]
async fn dumps() {
    let site = Site::new();
    site.topic("t", 2).await;
    site.run(&["produce", "t", "-p", "1", "-k", "k"], "{}\nplain\n").ok();
    let data = site.folder.path().join("data");
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let partition = path(data.join("t-1"));
    let consumed = site.run(&["consume", "t", "-o", "ndjson"], "").ok();
    let lines = site.run(&["log", "dump", &partition, "--records", "-o", "ndjson"], "").ok();
    assert!(lines.err.contains("a node holds this directory"), "{}", lines.err);
    let found: Vec<serde_json::Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.iter().map(|object| object["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["batch", "record", "record"]);
    let as_consumed: Vec<_> = lines.text().lines().skip(1).map(|line| line.replacen("\"kind\":\"record\",", "", 1)).collect();
    assert_eq!(as_consumed, consumed.text().lines().collect::<Vec<_>>());
    let array = site.run(&["log", "dump", &partition, "--records", "-o", "json"], "").ok();
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(array.text()).unwrap(), found);

    let text = site.run(&["log", "dump", &partition], "").ok();
    assert!(text.text().contains("2 records, ") && text.text().contains("newest 20") && text.text().contains("Z, crc"), "{}", text.text());
    site.run(&["log", "dump", &path(data.join("nope"))], "").failed(3, &["no such file or directory"]);
    site.run(&["log", "verify", &path(data.join("nope"))], "").failed(3, &["no such file or directory"]);
    site.run(&["log", "dump", &path(data.join("nope.log"))], "").failed(3, &["no such file or directory"]);
    site.run(&["log", "dump", data.to_str().unwrap()], "").failed(1, &["no .log files of its own", &path(data.join("t-0"))]);
}

/// A promise: a failure half-way says how many records are in, up to which line, and what is wrong with the next one.
#[tokio::test]
async fn half_way() {
    let site = Site::new();
    site.topic("t", 1).await;
    let bad = site.run(&["produce", "t", "-i", "ndjson"], "{\"text\":\"a\"}\n{\"text\":\"b\"}\n{\"txet\":\"c\"}\n{\"text\":\"d\"}\n");
    bad.failed(1, &["line 3:", "unknown field `txet`", "2 records are in: all up to line 2"]);
    assert_eq!(site.records("t", 0).await.len(), 2);

    let long = format!("a\n{}\nb\n", "x".repeat(3 << 20));
    site.run(&["produce", "t"], long).failed(1, &["line 2:", "longer than", "max.message.bytes", "1 record is in: all up to line 1"]);
    let large = format!("a\n{}\nb\n", "x".repeat(1 << 20));
    site.run(&["produce", "t"], large).failed(1, &["line 2", "1 record is in: all up to line 1"]);

    // A time that the topic does not take is for the server to refuse.
    let refused = site.run(&["produce", "t", "-f", r"%T %v\n"], "5 a\n9000000000000000 b\n");
    refused.failed(1, &["all up to line 1", "line 2", "timestamp"]);
}

/// A promise: a reader that goes away ends `consume` quietly, however much there is.
#[tokio::test]
async fn a_broken_pipe_is_quiet() {
    let site = Site::new();
    site.topic("big", 1).await;
    site.run(&["produce", "big"], "a line of some length\n".repeat(100_000)).ok();
    for arguments in [&["consume", "big"][..], &["consume", "big", "-o", "json"], &["tail", "big", "-n", "50000"]] {
        let mut child = site.command(arguments).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        let ran = end(child);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

/// A promise: Ctrl-C in the middle of producing loses nothing that was sent, says how many are in, and is told by the exit code.
#[tokio::test]
async fn interrupted_producing() {
    let site = Site::new();
    site.topic("t", 1).await;
    let mut child = site.command(&["produce", "t", "-o", "ndjson", "--linger", "0ms"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"a\nb\nc\nhalf a line").unwrap();
    let mut positions = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..3 {
        assert_ne!(positions.read_line(&mut String::new()).unwrap(), 0);
    }
    interrupt(&child);
    child.stdout = Some(positions.into_inner());
    let ran = end(child).failed(130, &["interrupted: 3 records are in: all up to line 3"]);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    drop(stdin);
    assert_eq!(site.records("t", 0).await.len(), 3);

    // What waits for its batch to fill is sent, not dropped.
    let mut child = site.command(&["produce", "t", "--linger", "1h"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&b"x\n".repeat(300_000)).unwrap();
    interrupt(&child);
    let ran = end(child).failed(130, &["interrupted: ", " in: all up to line "]);
    drop(stdin);
    let said: String = ran.err.trim_start_matches("interrupted: ").chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    let topic = site.client.describe_topic("t").await.unwrap();
    assert_eq!(topic.partitions[0].latest_offset, Some(3 + said.replace(',', "").parse::<u64>().unwrap()));
}

/// A promise: following shows each record as it comes, in any form, and Ctrl-C ends it without noise and with its output whole.
#[tokio::test]
async fn interrupted_following() {
    let site = Site::new();
    site.topic("t", 2).await;
    site.client.produce("t", &[NewRecord::text("before")], &ProduceOptions::default()).await.unwrap();
    let cases: [(&[&str], &[&str], &str); 3] = [
        (&["tail", "t", "-n", "1", "-f"], &["before"], ""),
        (&["tail", "t", "-n", "0", "-f", "-F", "%v\\n"], &[], ""),
        (&["consume", "t", "--from", "end", "--follow", "-o", "json"], &[], "]"),
    ];
    for (arguments, before, after) in cases {
        let mut child = site.command(arguments).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut next = || {
            let mut line = String::new();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it has ended");
            line.trim_end().to_owned()
        };
        for line in before {
            assert_eq!(next(), *line);
        }
        // Nothing says when it has asked for what comes; so records come until the first one is seen.
        let client = site.client.clone();
        let coming = tokio::spawn(async move {
            loop {
                let record = NewRecord { partition: Some(1), ..NewRecord::text("before").timestamp(TIME) };
                client.produce("t", &[record], &ProduceOptions::default()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let seen = tokio::task::spawn_blocking({
            let is_json = after == "]";
            move || {
                let mut line = String::new();
                for _ in 0..=usize::from(is_json) {
                    line.clear();
                    assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it has ended");
                }
                (line, lines)
            }
        });
        let (line, mut lines) = seen.await.unwrap();
        coming.abort();
        assert!(line.contains("before"), "{line}");
        interrupt(&child);
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        child.stdout = Some(lines.into_inner());
        let ran = end(child);
        assert_eq!((ran.code, ran.err.as_str()), (Some(130), ""), "{arguments:?}");
        assert!(rest.trim_end().ends_with(after), "{rest}");
    }
}
