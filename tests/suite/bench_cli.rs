//! `tidegate bench`: its results have the names that programs rely on, its comparison notices what is wrong, and it ends when the node is gone. No figure is
//! judged here.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_tests::http::Request;
use tidegate_tests::process::{Process, binary, run};

/// Runs `tidegate bench` on `node` for a moment, with JSON as its output.
fn bench(node: &Process, arguments: &str) -> (Option<i32>, String, String) {
    let url = node.url();
    let words = ["bench"].into_iter().chain(arguments.split_whitespace()).chain(["--server", url.as_str(), "-o", "json"]);
    run(&words.collect::<Vec<_>>()).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn good(node: &Process, arguments: &str) -> Value {
    let (code, out, err) = bench(node, arguments);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments}: {out}");
    json(&out)
}

fn topics(node: &Process) -> Vec<String> {
    let page = tidegate_tests::http::get(node.address(), "/v1/topics").unwrap().json();
    page["items"].as_array().unwrap().iter().map(|topic| topic["name"].as_str().unwrap().to_owned()).collect()
}

/// The names in an object, and in the objects within, as paths.
fn names(value: &Value) -> Vec<String> {
    let Value::Object(members) = value else { return Vec::new() };
    let mut all = Vec::new();
    for (name, member) in members {
        match names(member) {
            inner if inner.is_empty() => all.push(name.clone()),
            inner => all.extend(inner.iter().map(|path| format!("{name}.{path}"))),
        }
    }
    all
}

const COUNTS: [&str; 13] = [
    "body_bytes",
    "errors",
    "latency_us.max",
    "latency_us.p50",
    "latency_us.p95",
    "latency_us.p99",
    "latency_us.p99.9",
    "megabytes_per_second",
    "records",
    "records_per_second",
    "requests",
    "requests_per_second",
    "seconds",
];

/// A promise: a result's names stay as programs know them, and the topic that was made is gone at the end.
#[test]
fn a_result_has_stable_names() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let result = good(&node, "produce --records 300 --connections 2 --partitions 2 --durability replicated --rate 100000");
    let mut want: Vec<String> = COUNTS.iter().map(|name| format!("produce.{name}")).collect();
    let rest = [
        "bench",
        "client_cpu_seconds",
        "client_cpu_share",
        "integrity.algorithm",
        "integrity.partitions",
        "integrity.records",
        "integrity.verdict",
        "server",
        "settings.acks",
        "settings.codec",
        "settings.compressible",
        "settings.connections",
        "settings.corrected_for_coordinated_omission",
        "settings.durability",
        "settings.form",
        "settings.in_flight",
        "settings.partitions",
        "settings.rate",
        "settings.record_bytes",
        "settings.records_per_request",
        "settings.warmup_ms",
        "tidegate_version",
        "topic",
        "topic_kept",
        "unsent_requests",
    ];
    want.extend(rest.map(str::to_owned));
    let mut have = names(&result);
    have.sort();
    want.sort();
    assert_eq!(have, want);
    assert_eq!((&result["bench"], &result["settings"]["corrected_for_coordinated_omission"]), (&"produce".into(), &true.into()));
    assert_eq!(names(&result["integrity"]["partitions"][0]), ["hash", "partition", "ranges", "records"]);
    assert_eq!(topics(&node), [""; 0]);
    let (code, text, _) = run(&["bench", "produce", "--records", "100", "--server", &node.url()]).unwrap();
    assert_eq!(code, Some(0));
    assert!(["records/s", "p99.9", "client CPU", "100 acknowledged records are there"].iter().all(|word| text.contains(word)), "{text}");
}

/// A promise: whatever records are sent as, all that was acknowledged is read back and found equal.
#[test]
fn every_form_is_compared() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    for (arguments, records) in [
        ("--form json --partitions 3", 1000),
        ("--form raw --records-per-request 1 --in-flight 4", 60),
        ("--form batches --record-bytes 31", 1000),
        ("--form batches --codec zstd --compressible", 1000),
        ("--form json --acks leader --records-per-request 7", 70),
    ] {
        let result = good(&node, &format!("produce --records {records} --connections 3 {arguments}"));
        let integrity = (&result["integrity"]["verdict"], &result["integrity"]["records"], &result["produce"]["records"]);
        assert_eq!(integrity, (&"equal".into(), &records.into(), &records.into()), "{arguments}: {result}");
        assert_eq!(result["produce"]["errors"], serde_json::json!({}));
    }
    for arguments in ["--form ndjson", "--acks none", "--no-verify"] {
        let result = good(&node, &format!("produce --records 200 {arguments}"));
        assert_eq!((&result["integrity"]["verdict"], &result["produce"]["records"]), (&"not-checked".into(), &200.into()), "{arguments}");
    }
    assert_eq!(topics(&node), [""; 0]);
}

/// A promise: every kind of bench counts what it says, end to end each record is seen once, and compares.
#[test]
fn every_bench_counts() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    for form in ["json", "batches"] {
        let consumed = good(&node, &format!("consume --records 2000 --duration 200ms --warmup 0s --form {form}"));
        assert_eq!((&consumed["integrity"]["verdict"], consumed["produce"].is_null()), (&"equal".into(), true), "{consumed}");
        assert!(consumed["consume"]["records"].as_u64() >= Some(2000), "{consumed}");

        let end_to_end = good(&node, &format!("e2e --records 400 --records-per-request 4 --partitions 2 --rate 4000 --form {form}"));
        assert_eq!((&end_to_end["end_to_end"]["records"], &end_to_end["unseen_records"]), (&400.into(), &0.into()), "{end_to_end}");
        assert_eq!((&end_to_end["produce"]["records"], &end_to_end["integrity"]["verdict"]), (&400.into(), &"equal".into()));

        let mixed = good(&node, &format!("mixed --connections 2 --duration 300ms --warmup 0s --form {form}"));
        assert!(mixed["produce"]["records"].as_u64() > Some(0) && mixed["consume"]["records"].as_u64() > Some(0), "{mixed}");
        assert_eq!(mixed["integrity"]["verdict"], "equal");
    }
    assert_eq!(topics(&node), [""; 0]);
}

/// Produces 300 records and keeps the topic and the result.
fn keep(node: &Process, folder: &Path) -> (String, String, Value) {
    let file = folder.join("r.json").to_str().unwrap().to_owned();
    let result = good(node, &format!("produce --records 300 --form json --keep --result {file}"));
    assert_eq!(json(&fs::read_to_string(&file).unwrap()), result, "the file is the result");
    let topic = result["topic"].as_str().unwrap().to_owned();
    assert_eq!((topics(node).as_slice(), &result["topic_kept"]), (&[topic.clone()][..], &true.into()));
    (topic, file, result)
}

fn verify(node: &Process, topic: &str, file: &str, form: &str) -> (Option<i32>, Value, String) {
    let arguments = format!("consume --topic {topic} --verify {file} --duration 100ms --warmup 0s --form {form}");
    let (code, out, err) = bench(node, &arguments);
    (code, json(&out), err)
}

/// A promise: another process, after a restart, finds what was acknowledged equal; if one record is another one than that, it says so and ends with 1.
#[test]
fn an_altered_record_is_found() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Process::start(data.path()).unwrap();
    let (topic, file, result) = keep(&node, folder.path());
    node.kill().unwrap();
    let node = Process::start(data.path()).unwrap();
    for form in ["json", "batches"] {
        let (code, result, err) = verify(&node, &topic, &file, form);
        assert_eq!((code, &result["integrity"]["verdict"]), (Some(0), &"equal".into()), "{err}");
    }
    // The same records but one, at the same offsets.
    let path = format!("/v1/topics/{topic}/partitions/0/records?offset=0&max_records=300");
    let page = tidegate_tests::http::get(node.address(), &path).unwrap().json();
    let mut records: Vec<Value> = page["records"].as_array().unwrap().iter().map(|record| record["value"].clone()).collect();
    assert_eq!(records.len(), 300);
    records[217]["d"] = "altered".into();
    let (deleted, made) =
        (Request::new("DELETE", &format!("/v1/topics/{topic}")), Request::json("/v1/topics", format!(r#"{{"name":"{topic}"}}"#)));
    assert_eq!((deleted.send(node.address()).unwrap().status, made.send(node.address()).unwrap().status), (204, 201));
    // Members in the order that they had: the bytes are compared.
    let text = |record: &Value| format!(r#"{{"value":{{"t":{},"d":{}}}}}"#, record["t"], record["d"]);
    let produce = |node: &Process, records: &[Value]| {
        let body = format!(r#"{{"records":[{}]}}"#, records.iter().map(text).collect::<Vec<_>>().join(","));
        let answer = Request::json(&format!("/v1/topics/{topic}/records"), body).send(node.address()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    produce(&node, &records[..200]);
    let (code, altered, err) = verify(&node, &topic, &file, "json");
    assert_eq!((code, &altered["integrity"]["verdict"]), (Some(1), &"different".into()), "records are missing");
    assert!(json(&err)["detail"].as_str().unwrap().contains("200 of them can be read"), "{err}");
    produce(&node, &records[200..]);
    for form in ["json", "batches"] {
        let (code, altered, err) = verify(&node, &topic, &file, form);
        assert_eq!((code, &altered["integrity"]["verdict"]), (Some(1), &"different".into()), "one record is another");
        assert!(json(&err)["detail"].as_str().unwrap().contains("not those that were acknowledged"), "{err}");
        assert_eq!(altered["integrity"]["partitions"], result["integrity"]["partitions"], "it shows what was acknowledged");
    }
}

/// A promise: when the node goes away in the middle, the bench ends by itself with code 5, a result of what it saw, and errors by their codes.
#[test]
fn the_node_goes_away() {
    for what in ["produce", "e2e", "mixed"] {
        let data = tempfile::tempdir().unwrap();
        let node = &Process::start(data.path()).unwrap();
        let url = node.url();
        let mut child = std::process::Command::new(binary().unwrap());
        child.args(["bench", what, "--duration", "30s", "--server", &url, "-o", "json"]);
        let child = child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        // Its topic is there, and has records: it is in the middle.
        let begun = Instant::now();
        while !has_records(node) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what} produces nothing");
            std::thread::sleep(Duration::from_millis(20));
        }
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(node.id().try_into().unwrap()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        let gone = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(gone.elapsed() < Duration::from_secs(15), "{what} ends soon");
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(5), "{what}: {out} {err}");
        let result = json(&out);
        let errors = result["produce"]["errors"].as_object().unwrap();
        assert!(errors.keys().any(|code| code == "unreachable" || code == "connection-broken"), "{what}: {errors:?}");
        assert!(result["ended_early"].as_str().is_some_and(|why| why.contains("no server answers")), "{what}: {result}");
        assert_eq!(result["integrity"]["verdict"], "not-checked", "{what}");
        assert!(err.contains("was not deleted") && !err.contains("panicked"), "{what}: {err}");
    }
}

/// A promise: at a rate, a node that stands still until the end is in the latencies: what should have been sent meanwhile has waited, too.
#[test]
fn a_stall_is_in_the_latencies() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let signal = |signal| {
        rustix::process::kill_process(rustix::process::Pid::from_raw(node.id().try_into().unwrap()).unwrap(), signal).unwrap();
    };
    let mut command = std::process::Command::new(binary().unwrap());
    let words = "bench produce --rate 500 --records-per-request 1 --connections 4 --warmup 0s --duration 2s -o json";
    command.args(words.split_whitespace()).args(["--server", &node.url()]);
    let begun = Instant::now();
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while !has_records(&node) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it produces nothing");
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(rustix::process::Signal::STOP);
    // Well after the end of the run.
    std::thread::sleep(Duration::from_millis(2500));
    signal(rustix::process::Signal::CONT);
    let output = child.wait_with_output().unwrap();
    let result = json(&String::from_utf8(output.stdout).unwrap());
    let (latency, unsent) = (&result["produce"]["latency_us"], result["unsent_requests"].as_u64().unwrap());
    assert!(latency["p95"].as_f64() > Some(500_000.0) && unsent > 100, "{unsent}: {latency}");
}

/// A promise: a run with a low rate lasts as long as it was told to.
#[test]
fn a_low_rate_ends_in_time() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let begun = Instant::now();
    let result = good(&node, "produce --rate 1 --records-per-request 100 --duration 300ms --warmup 0s");
    assert!(begun.elapsed() < Duration::from_secs(30), "the second request would be due after 100 s");
    assert_eq!(result["produce"]["requests"], 1);
}

fn has_records(node: &Process) -> bool {
    let bytes = |topic: &String| {
        let described = tidegate_tests::http::get(node.address(), &format!("/v1/topics/{topic}")).unwrap().json();
        described["partitions"][0]["latest_offset"].as_u64().unwrap_or_default()
    };
    topics(node).iter().any(|topic| bytes(topic) > 100)
}

/// A promise: Ctrl-C and SIGTERM end it soon with their codes; the result of what was seen is told, and the topic is gone.
#[test]
fn signals_tidy_up() {
    use rustix::process::Signal;
    for (signal, code, word) in [(Signal::INT, 130, "it was interrupted"), (Signal::TERM, 143, "it was ended by SIGTERM")] {
        ends_by(signal, code, word);
    }
}

fn ends_by(signal: rustix::process::Signal, code: i32, word: &str) {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let mut command = std::process::Command::new(binary().unwrap());
    command.args(["bench", "produce", "--duration", "30s", "--warmup", "0s", "--server", &node.url(), "-o", "json"]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !has_records(&node) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it produces nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), err.as_str()), (Some(code), ""), "{out}");
    let result = json(&out);
    assert_eq!((&result["ended_early"], result["produce"]["records"].as_u64() > Some(0)), (&word.into(), true));
    assert_eq!(topics(&node), [""; 0]);
}

/// A promise: what makes no sense is refused with words and code 2, a topic that is not there with 3, a file that is no result with 1; nothing is made.
#[test]
fn wrong_words_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    for (arguments, code, word) in [
        ("produce --form raw --records-per-request 2", 2, "--records-per-request 1"),
        ("consume --form ndjson", 2, "--form json or --form batches"),
        ("produce --codec zstd", 2, "--form batches"),
        ("produce --codec zip --form batches", 2, "none, gzip, snappy, lz4, zstd"),
        ("produce --record-bytes 30", 2, "at least 31"),
        ("produce --record-bytes 1000000 --records-per-request 10000", 2, "bytes of values"),
        ("produce --topic t --partitions 3", 2, "cannot be used with"),
        ("produce --duration 0s", 2, "duration"),
        ("consume --verify r.json", 2, "--topic"),
        ("produce --connections 4096 --in-flight 200", 2, "at most"),
        ("produce --topic not-there", 3, "not-there"),
        ("consume --topic not-there --verify /dev/null", 1, "/dev/null"),
        ("consume --topic not-there --verify /dev/zero", 1, "/dev/zero"),
    ] {
        let (have, out, err) = bench(&node, arguments);
        assert_eq!((have, out.as_str()), (Some(code), ""), "{arguments}: {err}");
        assert!(err.contains(word), "{arguments}: {err}");
    }
    assert_eq!(topics(&node), [""; 0]);
}
