//! The HTTP floor over real sockets, on a node that has not finished starting: what holds for every request whatever it asks.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::Value;
use tidegate_api::{ApiConfig, ApiState, openapi, serve};
use tidegate_types::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Node {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Node {
    async fn start(config: ApiConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, ApiState::new(config), async {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), served }
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request` as it is, with the connection closed after the answer.
    async fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        Answer::read(&mut stream).await
    }

    async fn call(&self, method: &str, path: &str, headers: &str) -> Answer {
        self.ask(&format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")).await
    }
}

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// Reads to the end of the connection.
    async fn read(stream: &mut TcpStream) -> Self {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(&all)));
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        Self { status: head[9..12].parse().unwrap(), head, body: all[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The code of the problem that it is, checked to be one.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["request_id"].as_str(), self.header("request-id"));
        assert!(problem["instance"].is_string() && problem["retryable"].is_boolean() && problem["side_effects"].is_string());
        (self.status, problem["code"].as_str().unwrap().to_owned())
    }
}

fn limits(change: impl FnOnce(&mut Limits)) -> ApiConfig {
    let mut limits = Limits::default();
    change(&mut limits);
    ApiConfig { limits, ..ApiConfig::default() }
}

/// Each documented operation, its path filled in.
fn operations() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&openapi::document_json()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let values = [("{topic}", "flights"), ("{partition}", "0"), ("{offset}", "17"), ("{node_id}", "1"), ("{name}", "meter-7")];
        let filled = values.into_iter().fold(path.clone(), |path, (parameter, value)| path.replace(parameter, value));
        assert!(!filled.contains('{'), "{filled}");
        for method in ["get", "put", "post", "delete", "patch"] {
            if item.get(method).is_some() {
                all.push((method.to_uppercase(), filled.clone()));
            }
        }
    }
    all
}

/// A promise: whoever opens the address itself comes to the documentation, and every answer of JSON ends its line.
#[tokio::test]
async fn the_root_leads_on_and_lines_end() {
    let node = Node::start(ApiConfig::default()).await;
    let root = node.call("GET", "/", "").await;
    assert_eq!((root.status, root.header("location")), (307, Some("/docs/")));
    assert_eq!(node.call("GET", "/docs/", "").await.status, 200);
    for path in ["/livez", "/readyz", "/nowhere", "/v1/limits"] {
        let body = node.call("GET", path, "").await.body;
        assert!(body.ends_with(b"}\n"), "{path}: {}", String::from_utf8_lossy(&body));
    }
}

/// A promise: an unknown path, a wrong method, and everything on a node that has not started, are problems.
#[tokio::test]
async fn what_is_not_answered_is_a_problem() {
    let node = Node::start(ApiConfig::default()).await;
    assert_eq!(node.call("GET", "/nowhere", "").await.problem(), (404, "route-not-found".to_owned()));
    let wrong = node.call("DELETE", "/livez", "").await;
    assert_eq!(wrong.problem(), (405, "method-not-allowed".to_owned()));
    assert_eq!(wrong.header("allow"), Some("GET,HEAD"));
    assert_eq!(node.call("TRACE", "/livez", "").await.problem().0, 405);
    assert_eq!(node.call("GET", "/docs/nothing.js", "").await.problem().0, 404);
    for (method, path) in operations() {
        let answer = node.call(&method, &path, "content-type: application/json\r\ncontent-length: 0\r\n").await;
        let open = ["/livez", "/metrics", "/openapi.json"].contains(&path.as_str());
        if open {
            assert_eq!(answer.status, 200, "{method} {path}");
        } else {
            assert_eq!(
                answer.problem().0 / 100,
                if path.starts_with("/v1/limits") { answer.status / 100 } else { 5 },
                "{method} {path}: {answer:?}"
            );
        }
    }
    let ready = node.call("GET", "/readyz", "").await;
    assert_eq!(ready.problem(), (503, "starting".to_owned()));
    assert_eq!(ready.header("retry-after"), Some("1"));
}

/// A promise: a HEAD is its GET without a body.
#[tokio::test]
async fn head_is_get_without_body() {
    let node = Node::start(ApiConfig::default()).await;
    let (get, head) = (node.call("GET", "/openapi.json", "").await, node.call("HEAD", "/openapi.json", "").await);
    assert_eq!((head.status, head.header("content-length")), (200, get.header("content-length")));
    assert!(head.body.is_empty() && !get.body.is_empty());
    let missing = node.call("HEAD", "/nowhere", "").await;
    assert!(missing.status == 404 && missing.body.is_empty());
}

/// A promise: a configured origin's preflight is answered for every operation, and nobody else's is.
#[tokio::test]
async fn preflights_are_answered_for_every_route() {
    let open = Node::start(ApiConfig { cors_origins: vec!["https://app.example".into()], ..ApiConfig::default() }).await;
    let shut = Node::start(ApiConfig::default()).await;
    for (method, path) in operations() {
        let asked = format!(
            "origin: https://app.example\r\naccess-control-request-method: {method}\r\naccess-control-request-headers: Record-Header-Unit, content-type\r\n"
        );
        let answer = open.call("OPTIONS", &path, &asked).await;
        assert_eq!(answer.status, 204, "{method} {path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
        assert!(answer.header("access-control-allow-methods").unwrap().split(", ").any(|allowed| allowed == method), "{method}");
        assert!(answer.header("access-control-allow-headers").unwrap().contains("record-header-unit"));
        assert_eq!(answer.header("access-control-max-age"), Some("7200"));
        assert_eq!(shut.call("OPTIONS", &path, &asked).await.problem().0, 405);
        let foreign = asked.replace("app.example", "evil.example");
        assert_eq!(open.call("OPTIONS", &path, &foreign).await.header("access-control-allow-origin"), None);
    }
    let read = open.call("GET", "/livez", "origin: https://app.example\r\n").await;
    assert_eq!((read.header("access-control-allow-origin"), read.header("vary")), (Some("https://app.example"), Some("origin")));
    assert!(read.header("access-control-expose-headers").unwrap().contains("next-offset"));
    assert_eq!(shut.call("GET", "/livez", "origin: https://app.example\r\n").await.header("access-control-allow-origin"), None);
}

/// A promise: foreign pages and foreign host names are turned away with a problem (D26).
#[tokio::test]
async fn foreign_pages_and_hosts_are_turned_away() {
    let node = Node::start(ApiConfig::default()).await;
    let page = node.call("POST", "/v1/topics", "origin: https://evil.example\r\n").await;
    assert_eq!(page.problem(), (403, "origin-not-allowed".to_owned()));
    let host = node.ask("GET /livez HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").await;
    assert_eq!(host.problem(), (403, "host-not-allowed".to_owned()));
    let none = node.ask("GET /livez HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert_eq!(none.problem(), (400, "malformed-header".to_owned()));
    assert_eq!(node.ask("GET /livez HTTP/1.0\r\n\r\n").await.status, 200);
}

/// A promise: every answer carries the request's id and the headers that keep browsers from guessing.
#[tokio::test]
async fn every_answer_is_marked() {
    let node = Node::start(ApiConfig::default()).await;
    for path in ["/livez", "/nowhere", "/docs/"] {
        let answer = node.call("GET", path, "request-id: mine-1\r\n").await;
        assert_eq!(answer.header("request-id"), Some("mine-1"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    }
    let (one, two) = (node.call("GET", "/livez", "").await, node.call("GET", "/livez", "").await);
    assert_ne!(one.header("request-id").unwrap(), two.header("request-id").unwrap());
}

/// A promise: an answer that is coded decodes to the plain one, and its tag still names it.
#[tokio::test]
async fn answers_are_coded_as_asked() {
    let node = Node::start(ApiConfig::default()).await;
    let plain = node.call("GET", "/openapi.json", "").await;
    assert!(plain.header("content-encoding").is_none() && plain.header("vary") == Some("accept-encoding"));
    for coding in ["zstd", "gzip", "br", "deflate"] {
        let coded = node.call("GET", "/openapi.json", &format!("accept-encoding: {coding}\r\n")).await;
        assert_eq!(coded.header("content-encoding"), Some(coding));
        assert!(coded.body.len() * 2 < plain.body.len());
        let mut decoded = Vec::new();
        match coding {
            "zstd" => decoded = zstd::decode_all(coded.body.as_slice()).unwrap(),
            "gzip" => drop(flate2::read::GzDecoder::new(coded.body.as_slice()).read_to_end(&mut decoded).unwrap()),
            "deflate" => drop(flate2::read::ZlibDecoder::new(coded.body.as_slice()).read_to_end(&mut decoded).unwrap()),
            _ => drop(brotli::Decompressor::new(coded.body.as_slice(), 4096).read_to_end(&mut decoded).unwrap()),
        }
        assert!(decoded == plain.body, "{coding}");
        let tag = coded.header("etag").unwrap();
        assert!(tag.starts_with("W/"));
        assert_eq!(node.call("GET", "/openapi.json", &format!("if-none-match: {tag}\r\n")).await.status, 304);
    }
    assert!(node.call("GET", "/livez", "accept-encoding: zstd\r\n").await.header("content-encoding").is_none(), "too short");
}

/// A promise: the documentation needs nothing from elsewhere, and its page runs no script but its own.
#[tokio::test]
async fn the_documentation_stands_alone() {
    let node = Node::start(ApiConfig::default()).await;
    let moved = node.call("GET", "/docs", "").await;
    assert_eq!((moved.status, moved.header("location")), (308, Some("/docs/")));
    let page = node.call("GET", "/docs/", "").await;
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'self'"));
    let html = String::from_utf8(page.body).unwrap();
    assert!(!html.contains("src=\"http") && !html.contains("<script>"), "{html}");
    let files: Vec<&str> = html.split(['"']).filter(|text| text.ends_with(".js") || text.ends_with(".css")).collect();
    assert!(files.len() >= 3, "{html}");
    for file in files {
        let answer = node.call("GET", &format!("/docs/{}", file.trim_start_matches("./")), "").await;
        assert!(answer.status == 200 && !answer.body.is_empty(), "{file}");
    }
    let initializer = node.call("GET", "/docs/swagger-initializer.js", "").await;
    assert!(String::from_utf8(initializer.body).unwrap().contains("/openapi.json"));
}

/// A promise: a head that does not end in time is cut off, whether it stops, trickles or never begins; a connection between requests is not.
#[tokio::test]
async fn slow_heads_are_cut_off() {
    let node = Node::start(limits(|limits| limits.head_timeout_ms = 150)).await;
    for start in ["", "P", "GET /livez HT", "GET /livez HTTP/1.1\r\nhost: localhost\r\nx-header: "] {
        let mut stream = node.connect().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // Returns only because the node closes; a reset is a close as well.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{start:?} was answered with {:?}", String::from_utf8_lossy(&rest));
    }
    let mut trickling = node.connect().await;
    trickling.write_all(b"GET /livez HTTP/1.1\r\nx: ").await.unwrap();
    let (mut reader, mut writer) = trickling.split();
    let mut nothing = Vec::new();
    let trickle = async {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = reader.read_to_end(&mut nothing) => assert!(nothing.is_empty()),
        () = trickle => {}
    }
    let mut kept = node.connect().await;
    let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for _ in 0..2 {
        kept.write_all(request).await.unwrap();
        let mut answer = [0; 4096];
        let length = kept.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
        tokio::time::sleep(Duration::from_millis(400)).await; // Longer than a head may take.
    }
}

/// A promise: a second head that comes slowly is cut off as the first one is.
#[tokio::test]
async fn slow_second_heads_are_cut_off() {
    let node = Node::start(limits(|limits| limits.head_timeout_ms = 150)).await;
    let mut stream = node.connect().await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 4096];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    stream.write_all(b"GET /livez HTTP/1.1\r\nho").await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

/// A promise: heads and URIs over their bounds are refused, with a problem as long as they are near the bound.
#[tokio::test]
async fn large_heads_are_refused() {
    let node = Node::start(ApiConfig::default()).await;
    let long = |bytes: usize| format!("x-long: {}\r\n", "x".repeat(bytes));
    assert_eq!(node.call("GET", "/livez", &long(20_000)).await.status, 200);
    assert_eq!(node.call("GET", "/livez", &long(33_000)).await.problem(), (431, "head-too-large".to_owned()));
    assert_eq!(node.call("GET", "/livez", &long(200_000)).await.status, 431);
    assert_eq!(node.call("GET", &format!("/livez?{}", "x".repeat(9000)), "").await.problem(), (414, "uri-too-long".to_owned()));
    assert_eq!(node.ask("this is no http\r\n\r\n").await.status, 400);
    let many = |count: usize| (0..count).map(|place| format!("record-header-{place}: x\r\n")).collect::<String>();
    assert_eq!(node.call("GET", "/livez", &many(200)).await.status, 200, "a record's headers fit");
    assert_eq!(node.call("GET", "/livez", &many(600)).await.status, 431);
}

/// A promise: an answer that leaves a body unread says that it closes the connection, however the body is sent; others do not.
#[tokio::test]
async fn unread_bodies_close_their_connections() {
    let node = Node::start(ApiConfig::default()).await;
    for (line, body, status) in [
        ("POST /nowhere", "content-length: 100000\r\n\r\nx", 404),
        ("POST /nowhere", "content-length: 100000\r\nexpect: 100-continue\r\n\r\n", 404),
        ("POST /livez", "transfer-encoding: chunked\r\n\r\n1\r\nx\r\n", 405),
        ("GET /livez", "content-length: 9\r\n\r\n", 200),
    ] {
        let answer = node.ask(&format!("{line} HTTP/1.1\r\nhost: localhost\r\n{body}")).await;
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{line} {body}");
    }
    let mut stream = node.connect().await;
    for _ in 0..2 {
        stream.write_all(b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]).to_lowercase();
        assert!(answer.starts_with("http/1.1 404") && !answer.contains("connection: close"), "{answer}");
    }
}

/// A promise: a name that is no UTF-8 names nothing of its kind.
#[tokio::test]
async fn names_that_are_no_text_are_not_found() {
    let node = Node::start(ApiConfig::default()).await;
    for (path, code) in [
        ("/v1/topics/%ff/records", "topic-not-found"),
        ("/v1/topics/%ff", "topic-not-found"),
        ("/v1/topics/a/partitions/%ff/records", "partition-not-found"),
        ("/v1/topics/a/partitions/0/records/%ff", "record-not-found"),
        ("/v1/nodes/%ff", "node-not-found"),
    ] {
        let method = if path.ends_with("%ff/records") && !path.contains("partitions") { "POST" } else { "GET" };
        assert_eq!(node.call(method, path, "").await.problem(), (404, code.to_owned()), "{path}");
    }
}

/// A promise: HTTP/2 is spoken to whoever begins with it.
#[tokio::test]
async fn http2_is_spoken_with_prior_knowledge() {
    let node = Node::start(ApiConfig::default()).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answers = (0..20).map(|_| client.get(format!("http://{}/nowhere", node.address)).send());
    for answer in futures_util::future::join_all(answers).await {
        let answer = answer.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 404));
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], "route-not-found");
    }
}

/// A promise: connections beyond the bound are told so, and there is room again when one ends.
#[tokio::test]
async fn connections_are_bounded() {
    let node = Node::start(limits(|limits| limits.connections = 1)).await;
    let mut first = node.connect().await;
    first.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 4096];
    assert!(first.read(&mut answer).await.unwrap() > 0);
    let mut second = node.connect().await;
    let refused = Answer::read(&mut second).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.header("content-length").unwrap(), refused.body.len().to_string());
    assert_eq!(serde_json::from_slice::<Value>(&refused.body).unwrap()["code"], "overloaded");
    drop(first);
    loop {
        let mut third = node.connect().await;
        third.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = third.read_to_end(&mut answer).await;
        if answer.starts_with(b"HTTP/1.1 200") {
            break; // The node learns of the first one's end in its own time.
        }
    }
}

/// A promise: a stop waits for the request under way, whose answer closes the connection; idle connections close, new ones are not taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_stop_answers_what_is_under_way() {
    let (entered, entering) = mpsc::channel();
    let (leave, leaving) = mpsc::channel::<()>();
    let leaving = Mutex::new(leaving);
    let metrics = move || {
        entered.send(()).unwrap();
        leaving.lock().unwrap().recv().unwrap();
        "tidegate_test 1\n".to_owned()
    };
    let mut node = Node::start(ApiConfig { metrics: Some(Arc::new(metrics)), ..ApiConfig::default() }).await;
    let mut idle = node.connect().await;
    let mut busy = node.connect().await;
    busy.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    tokio::task::spawn_blocking(move || entering.recv().unwrap()).await.unwrap();
    node.stop();
    let mut nothing = Vec::new();
    let _ = idle.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
    assert!(TcpStream::connect(node.address).await.is_err());
    assert!(!node.served.is_finished());
    leave.send(()).unwrap();
    let answer = Answer::read(&mut busy).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(answer.body, b"tidegate_test 1\n");
    node.served.await.unwrap();
}

/// A promise: what does not end is cut off when the stop's time is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_stop_ends() {
    let config = ApiConfig { drain_timeout: Duration::from_millis(50), drain_linger: Duration::from_millis(10), ..ApiConfig::default() };
    let mut node = Node::start(config).await;
    let mut stuck = node.connect().await;
    stuck.write_all(b"GET /livez HTTP/1.1\r\nhost: loc").await.unwrap();
    // Its first bytes are read before the stop, or the connection would end with it at once.
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.stop();
    node.served.await.unwrap();
}
