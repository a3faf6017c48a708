//! Servers that are not as they should be: none of ours, hostile, hanging, or ours with something wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::{Person, Scene};

/// Serves each connection once by `answer`, which is given the request's first line. Its thread ends with the test's process.
fn server(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut first = String::new();
            reader.read_line(&mut first).unwrap();
            // The rest of the head, so that nothing unread resets the connection.
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let _ = stream.write_all(&answer(first.trim_end()));
        }
    });
    address
}

/// An answer of HTTP.
fn http(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body.as_bytes()].concat()
}

/// A promise: a server that is no node is called so, with its address and who named it, whatever it answers; it is a failure of code 1, and
/// its 404 is not mistaken for a topic that is missing.
#[test]
fn wrong_server() {
    type Answer = fn() -> Vec<u8>;
    let answers: [(&str, Answer); 5] = [
        ("page", || http("200 OK", "text/html", "<html>hello</html>")),
        ("no page", || http("404 Not Found", "text/html", "<html>hello</html>")),
        ("JSON", || http("200 OK", "application/json", r#"{"hello":"world"}"#)),
        ("broken JSON", || http("200 OK", "application/json", "{")),
        ("garbage", || b"SSH-2.0-OpenSSH_9.6\r\n\0\x01\x02\r\n\r\n".to_vec()),
    ];
    for (name, answer) in answers {
        let url = server(move |_| answer());
        let person = Person::new(Some(url.clone()));
        for verb in [&["topic", "describe", "orders"][..], &["topic", "list"], &["cluster", "health"]] {
            let ran = person.run(verb);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{name} {verb:?}: {}", ran.stderr);
            assert!(ran.stderr.contains("is it a Tidegate node that listens"), "{name} {verb:?}: {}", ran.stderr);
            assert!(ran.stderr.contains(&url) && ran.stderr.contains("TIDEGATE_SERVER"), "{name} {verb:?}: {}", ran.stderr);
        }
        let ran = person.run(&["doctor"]);
        assert_eq!(ran.code, Some(6), "{name}");
        let sentence = format!("it is no Tidegate node that listens at {url}");
        assert_eq!(ran.stdout.matches(&sentence).count(), 1, "{name}: {}", ran.stdout);
        assert!(!ran.stdout.contains("is it a Tidegate node") && !ran.stdout.contains("does not answer"), "{name}: {}", ran.stdout);
    }
}

/// A promise: nothing that a server says acts on the terminal, whether it fails or answers.
#[test]
fn hostile_server() {
    let problem = r#"{"status":500,"code":"x","title":"t","detail":"\u001b]0;owned\u0007\u202e","retryable":false,"side_effects":"none"}"#;
    let topics = r#"{"items":[{"name":"\u001b[2Jx","partition_count":1,"replication_factor":1,"internal":false}]}"#;
    let url = server(move |line| match line {
        line if line.starts_with("GET /v1/topics?") => http("200 OK", "application/json", topics),
        _ => http("500 Internal Server Error", "application/problem+json", problem),
    });
    let person = Person::new(Some(url));
    for verb in [&["topic", "list"][..], &["topic", "describe", "x"], &["cluster", "status"], &["doctor"], &["consume", "x"]] {
        let ran = person.run(verb);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!said.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{verb:?}: {said:?}");
        assert!(said.contains("owned") || said.contains("[2Jx"), "{verb:?}: {said:?}");
    }
}

/// A promise: a node that hangs is waited for no longer than ten seconds by what only looks, and long before that somebody is told.
#[test]
fn hanging_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let person = Person::new(Some(format!("http://{}", listener.local_addr().unwrap())));
    let children: Vec<_> = [&["topic", "list"][..], &["cluster", "health"], &["cluster", "status"], &["doctor"]]
        .into_iter()
        .map(|verb| {
            let mut command = person.command(&tidegate_tests::process::binary().unwrap());
            command.args(verb).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            (verb, command.spawn().unwrap())
        })
        .collect();
    for (verb, mut child) in children {
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let mut found = String::new();
        child.stdout.take().unwrap().read_to_string(&mut found).unwrap();
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(if verb[0] == "doctor" { 6 } else { 5 }), "{verb:?}: {said}");
        assert!(said.contains("still waiting for http://127.0.0.1"), "{verb:?}: {said}");
        assert!(format!("{said}{found}").contains("no answer within 10000 ms"), "{verb:?}: {said}{found}");
    }
}

/// What a cluster says that is not well.
fn ailing(line: &str) -> Vec<u8> {
    let partition = |n: u32, rest: &str| format!(r#"{{"partition":{n},"replicas":[1,2,3],{rest}}}"#);
    let topic = format!(
        r#"{{"name":"orders","topic_id":"00000000-0000-0000-0000-000000000000","replication_factor":3,"internal":false,
        "config":{{"min.insync.replicas":{{"value":"2","source":"default"}}}},"partitions":[{}]}}"#,
        [
            partition(0, r#""leader":1,"leader_epoch":4,"in_sync_replicas":[1,2,3],"earliest_offset":0,"latest_offset":1234567,"size_bytes":99999999"#),
            partition(1, r#""leader":1,"leader_epoch":4,"in_sync_replicas":[1,2],"earliest_offset":0,"latest_offset":5,"size_bytes":1"#),
            partition(2, r#""leader":1,"leader_epoch":4,"in_sync_replicas":[1],"earliest_offset":0,"latest_offset":5,"size_bytes":1"#),
            partition(3, r#""leader":1,"leader_epoch":4,"in_sync_replicas":[1,2,3]"#),
            partition(4, r#""leader_epoch":4,"in_sync_replicas":[]"#),
        ]
        .join(",")
    );
    let cluster = r#"{"cluster_id":"00000000-0000-0000-0000-000000000000","metadata_version":7,"nodes":[
        {"node_id":1,"state":"online","roles":["broker"],"client_address":"10.0.0.1:8080"},
        {"node_id":2,"state":"fenced","roles":["broker"],"client_address":"10.0.0.2:8080"}],
        "voters":[1,2],"offline_partitions":1,"under_replicated_partitions":3}"#;
    let topics = r#"{"items":[{"name":"orders","partition_count":5,"replication_factor":3,"internal":false}]}"#;
    match line.split(' ').nth(1).unwrap_or_default() {
        "/v1/cluster" => http("200 OK", "application/json", cluster),
        "/v1/topics/orders" => http("200 OK", "application/json", &topic),
        path if path.starts_with("/v1/topics?") => http("200 OK", "application/json", topics),
        _ => {
            http("404 Not Found", "application/problem+json", r#"{"status":404,"code":"route-not-found","detail":"there is no such path"}"#)
        }
    }
}

/// A promise: whatever is not as it should be in a cluster is shown, in words and for programs, with exit code 6.
#[test]
fn ailing_cluster() {
    let url = server(ailing);
    let person = Person::new(Some(url.clone()));
    Scene { person: &person, names: vec![("http://127.0.0.1:8080", url)], measures: false }.check("ailing.txt");
}
