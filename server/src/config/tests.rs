//! The configuration as people write it: what wins, what is refused, and in which words.

use std::io::Write;

use super::*;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn flags(pairs: &[(&'static str, &str, &str)]) -> Vec<(&'static str, String, String)> {
    pairs.iter().map(|(f, k, v)| (*f, (*k).to_owned(), (*v).to_owned())).collect()
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    (dir, path)
}

fn from_file(name: &str, text: &str) -> Result<Loaded, ConfigError> {
    let (_dir, path) = file(name, text);
    load(&Inputs { file: Some(path), ..Inputs::default() })
}

fn from_flags(pairs: &[(&'static str, &str, &str)]) -> Result<Loaded, ConfigError> {
    load(&Inputs { flags: flags(pairs), ..Inputs::default() })
}

fn problem(result: Result<Loaded, ConfigError>) -> String {
    result.unwrap_err().to_string()
}

fn source_of(config: &Config, name: &str) -> String {
    config.settings.iter().find(|s| s.definition.name == name).unwrap().source.to_string()
}

/// A promise: with nothing said, a node listens on loopback only and has the limits that are documented; every default is valid.
#[test]
fn defaults() {
    let loaded = load(&Inputs::default()).unwrap();
    let config = loaded.config;
    assert_eq!((config.listener.to_string().as_str(), config.node_id.get(), config.default_partitions), ("127.0.0.1:8080", 1, 1));
    assert_eq!(config.data_dir, PathBuf::from("./tidegate-data"));
    assert_eq!(config.limits, Limits::default());
    assert!(loaded.warnings.is_empty());
    for definition in DEFINITIONS {
        assert!(definition.kind.accepts(definition.default), "{}", definition.name);
        assert_eq!(source_of(&config, definition.name), "default");
    }
    assert!(DEFINITIONS.is_sorted_by_key(|d| d.name), "the list is shown in its order");
}

/// A promise: flags win over the environment, the environment over the file, the file over the defaults, and each value says who set it.
#[test]
fn precedence() {
    let (_dir, path) = file("node.toml", "num.partitions = 2\nbroker.rack = \"r1\"\n[node]\nid = 5\n");
    let environment =
        env(&[("TIDEGATE_NUM_PARTITIONS", "3"), ("TIDEGATE_NODE_ID", "6"), ("PATH", "/bin"), ("TIDEGATE_SERVER", "http://x")]);
    let flags = flags(&[("--set", "node.id", "7"), ("--data-dir", "log.dirs", "d")]);
    let config = load(&Inputs { file: Some(path.clone()), environment, flags }).unwrap().config;
    assert_eq!((config.node_id.get(), config.default_partitions, config.rack.as_deref()), (7, 3, Some("r1")));
    assert_eq!(source_of(&config, "node.id"), "flag --set");
    assert_eq!(source_of(&config, "num.partitions"), "environment TIDEGATE_NUM_PARTITIONS");
    assert_eq!(source_of(&config, "broker.rack"), format!("file {}", path.display()));
}

/// A promise: an unknown key is an error wherever it stands, and the nearest known key is named; nothing else of the input is lost over it.
#[test]
fn unknown_keys_are_errors() {
    let text = problem(from_file("node.toml", "num.partition = 2\nfoo = 1\n"));
    assert!(text.contains("there is no key 'num.partition'; did you mean 'num.partitions'?"), "{text}");
    assert!(text.contains("there is no key 'foo'"), "{text}");
    let environment = env(&[("TIDEGATE_LISTENER", "127.0.0.1:1")]);
    let text = problem(load(&Inputs { environment, ..Inputs::default() }));
    assert!(text.contains("environment TIDEGATE_LISTENER: there is no key 'listener'; did you mean 'listeners'?"), "{text}");
    let text = problem(from_flags(&[("--set", "retention.ms", "1")]));
    assert!(text.contains("is about topics"), "{text}");
}

/// A promise: variables that Kubernetes sets for a service called `tidegate` do not stop the node.
#[test]
fn a_kubernetes_service_does_no_harm() {
    let environment =
        env(&[("TIDEGATE_SERVICE_HOST", "10.0.0.1"), ("TIDEGATE_PORT", "tcp://10.0.0.1:8080"), ("TIDEGATE_PORT_8080_TCP", "x")]);
    assert!(load(&Inputs { environment, ..Inputs::default() }).is_ok());
}

/// A promise: a value of the wrong kind or out of bounds is refused with what the key takes and where the value stands.
#[test]
fn bounds() {
    for (key, bad, says) in [
        ("num.partitions", "0", "a whole number from 1 to 10000"),
        ("num.partitions", "many", "a whole number"),
        ("node.id", "-1", "a whole number from 0"),
        ("insecure.listen", "yes", "true or false"),
        ("log.format", "xml", "one of pretty, json"),
        ("log.level", "loud", "a level"),
        ("log.level", "", "a level"),
        ("cors.origins", "example.org", "a list of origins"),
        ("limit.body.bytes", "33554433", "33554432"),
    ] {
        let text = problem(from_flags(&[("--set", key, bad)]));
        assert!(text.starts_with(&format!("flag --set: {key} must be")) && text.contains(says), "{text}");
    }
    let text = problem(from_file("node.toml", "node.id = 1.5\nnum.partitions = [[1]]"));
    assert!(text.contains("node.id: a value is") && text.contains("num.partitions: a value is"), "{text}");
}

/// A promise: lines of Kafka's own file are read; keys that mean nothing here are named in one warning; aliases are the keys they stand for.
#[test]
fn server_properties() {
    let text = "# Kafka\nbroker.id=3\nlisteners=CLIENT://127.0.0.1:9000\nlog.dirs=some/dir\nnum.io.threads=8\nzookeeper.connect=z:2181\nnum.network.threads=3\n";
    let loaded = from_file("server.properties", text).unwrap();
    assert_eq!((loaded.config.node_id.get(), loaded.config.listener.port, loaded.config.data_dir), (3, 9000, PathBuf::from("some/dir")));
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].ends_with("num.io.threads, num.network.threads, zookeeper.connect"), "{}", loaded.warnings[0]);
    let twice = problem(from_file("server.properties", "broker.id=3\nnode.id=4\n"));
    assert!(twice.contains(":2: 'node.id' is set twice"), "{twice}");
}

/// A promise: a plain line in a TOML file is refused with its line number and the way out.
#[test]
fn broken_toml() {
    let text = problem(from_file("node.toml", "node.id = 1\nlog.dirs=some/dir\n"));
    assert!(text.contains("line 2") && text.contains("*.properties"), "{text}");
    assert!(problem(load(&Inputs { file: Some(PathBuf::from("/does/not/exist")), ..Inputs::default() })).contains("/does/not/exist"));
}

/// A promise: a listener that other machines can reach is refused unless somebody says that it is meant.
#[test]
fn exposure_is_said() {
    for open in ["0.0.0.0:8080", "[::]:8080", ":8080", "192.168.1.4:8080", "example.org:80", "CLIENT://0.0.0.0:1"] {
        let text = problem(from_flags(&[("--listen", "listeners", open)]));
        assert!(text.contains("--insecure-listen"), "{open}: {text}");
        assert!(from_flags(&[("--listen", "listeners", open), ("--insecure-listen", "insecure.listen", "true")]).is_ok());
    }
    for closed in ["127.0.0.1:0", "localhost:8080", "[::1]:8080", "127.9.9.9:1"] {
        assert!(from_flags(&[("--listen", "listeners", closed)]).is_ok(), "{closed}");
    }
}

/// A promise: listeners, addresses and directories that this version cannot serve are refused with a word on what it can.
#[test]
fn impossible_places() {
    for (key, bad, says) in [
        ("listeners", "PLAINTEXT://:9092", "there is no listener 'PLAINTEXT'"),
        ("listeners", "CLIENT://127.0.0.1:1,CLIENT://127.0.0.1:2", "one client listener"),
        ("listeners", "PEER://127.0.0.1:1", "PEER"),
        ("listeners", "127.0.0.1", "no host:port"),
        ("listeners", "127.0.0.1:70000", "no port"),
        ("listeners", "::1:80", "brackets"),
        ("listeners", "", "no listener"),
        ("advertised.listeners", "0.0.0.0:80", "nobody can call"),
        ("log.dirs", "a,b", "one data directory"),
        ("log.dirs", "", "needs a data directory"),
        ("limit.in.flight.bytes", "1048576", "larger than all together"),
    ] {
        let text = problem(from_flags(&[("--set", key, bad)]));
        assert!(text.contains(says), "{key}={bad}: {text}");
    }
}

/// A promise: everything that is wrong is said at once.
#[test]
fn all_problems_at_once() {
    let error = from_flags(&[
        ("--set", "node.id", "x"),
        ("--set", "nope", "1"),
        ("--set", "log.dirs", "a,b"),
        ("--listen", "listeners", "0.0.0.0:1"),
    ])
    .unwrap_err();
    assert_eq!(error.problems.len(), 4, "{error}");
}

/// A promise: a secret's value is never shown, in a log line neither.
#[test]
fn secrets_are_not_shown() {
    static SECRET: Definition = Definition { name: "x", kind: Kind::Text, default: "", description: "", secret: true };
    let setting = Setting { definition: &SECRET, value: "hunter2".to_owned(), source: Source::Default };
    assert_eq!(setting.shown(), "(secret)");
    assert_eq!(format!("{setting:?}"), "x=(secret) (default)");
}
