//! One connection to a node: a request, its answer, and in an error's words what became of it when there was none.
//!
//! It is hyper without a pool, since the connections are what is measured: HTTP/1.1 with one request under way, or HTTP/2 with several.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidegate_client::{Error, Problem};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// More than any page that is asked for.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// Where the node is, and how long it may take over an answer.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Host and port.
    authority: String,
    /// What comes before `/v1`.
    prefix: String,
    timeout: Duration,
}

/// A 2xx answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A request that can be sent again and again, with other bodies.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    /// Whole, as HTTP/2 wants it; and only the path, as HTTP/1.1 does.
    uri: Uri,
    path: Uri,
    content_type: Option<HeaderValue>,
}

/// One of those who send on a connection; with HTTP/2 others send on it, too. It is opened with the first request, and again after it broke.
#[derive(Debug)]
pub(crate) struct Connection {
    node: Node,
    open: Open,
}

#[derive(Debug)]
enum Open {
    One(Option<http1::SendRequest<Full<Bytes>>>),
    Many(Shared),
}

type Shared = Arc<Mutex<Option<http2::SendRequest<Full<Bytes>>>>>;

impl Node {
    /// From a server's URL, which the client has accepted.
    ///
    /// # Errors
    /// [`Error::Address`] if it has no host.
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Address { address: url.to_owned(), reason };
        let uri: Uri = url.parse().map_err(|error: hyper::http::uri::InvalidUri| refuse(error.to_string()))?;
        let authority = uri.authority().ok_or_else(|| refuse("it has no host".to_owned()))?;
        let port = authority.port_u16().unwrap_or(80);
        let authority = format!("{}:{port}", authority.host());
        Ok(Self { authority, prefix: uri.path().trim_end_matches('/').to_owned(), timeout })
    }

    /// Those who send on one connection: as many as requests may be under way on it.
    pub(crate) fn senders(&self, in_flight: u16) -> Vec<Connection> {
        if in_flight == 1 {
            return vec![Connection { node: self.clone(), open: Open::One(None) }];
        }
        let shared = Shared::default();
        (0..in_flight).map(|_| Connection { node: self.clone(), open: Open::Many(Arc::clone(&shared)) }).collect()
    }

    /// A request to `target`, which begins with `/v1`.
    ///
    /// # Errors
    /// [`Error::Input`] if that is no target.
    pub(crate) fn call(&self, method: Method, target: &str, content_type: Option<&'static str>) -> Result<Call, Error> {
        let parse = |text: String| text.parse::<Uri>().map_err(|error| Error::Input(format!("'{text}' cannot be asked for: {error}")));
        let uri = parse(format!("http://{}{}{target}", self.authority, self.prefix))?;
        let path = parse(format!("{}{target}", self.prefix))?;
        Ok(Call { method, uri, path, content_type: content_type.map(HeaderValue::from_static) })
    }

    async fn connect(&self) -> Result<TcpStream, Error> {
        let refuse = |reason: String| Error::Connect { addresses: format!("http://{}{}", self.authority, self.prefix), reason };
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.authority)).await;
        let stream = connecting.map_err(|_| refuse("no answer in time".to_owned()))?.map_err(|error| refuse(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| refuse(error.to_string()))?;
        Ok(stream)
    }
}

impl Connection {
    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    /// As any call of the client. After a broken connection or a timeout the next request opens another one.
    pub(crate) async fn exchange(&mut self, call: &Call, body: Bytes) -> Result<Answer, Error> {
        let timeout = self.node.timeout;
        let outcome = match tokio::time::timeout(timeout, self.send(call, body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout(timeout)),
        };
        if let (Err(Error::Broken(_) | Error::Timeout(_)), Open::One(sender)) = (&outcome, &mut self.open) {
            *sender = None;
        }
        outcome
    }

    async fn send(&mut self, call: &Call, body: Bytes) -> Result<Answer, Error> {
        let broken = |error: hyper::Error| Error::Broken(error.to_string());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = call.method.clone();
        if let Some(content_type) = &call.content_type {
            request.headers_mut().insert(CONTENT_TYPE, content_type.clone());
        }
        let response = match &mut self.open {
            Open::One(place) => {
                let mut sender = match place.take().filter(|sender| !sender.is_closed()) {
                    Some(sender) => sender,
                    None => {
                        let stream = TokioIo::new(self.node.connect().await?);
                        let (sender, driver) = http1::handshake(stream).await.map_err(broken)?;
                        tokio::spawn(driver);
                        sender
                    }
                };
                let host = HeaderValue::from_str(&self.node.authority).map_err(|error| Error::Input(error.to_string()))?;
                request.headers_mut().insert(HOST, host);
                *request.uri_mut() = call.path.clone();
                let response = sender.send_request(request).await.map_err(broken)?;
                *place = Some(sender);
                response
            }
            Open::Many(shared) => {
                let mut sender = {
                    let mut place = shared.lock().await;
                    match place.as_ref().filter(|sender| !sender.is_closed()) {
                        Some(sender) => sender.clone(),
                        None => {
                            let stream = TokioIo::new(self.node.connect().await?);
                            let (sender, driver) = http2::handshake(TokioExecutor::new(), stream).await.map_err(broken)?;
                            tokio::spawn(driver);
                            place.insert(sender).clone()
                        }
                    }
                };
                *request.uri_mut() = call.uri.clone();
                sender.send_request(request).await.map_err(broken)?
            }
        };
        let (head, body) = response.into_parts();
        // The longest answer that is asked for, and an error's words.
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| Error::Broken(error.to_string()))?.to_bytes();
        if head.status.is_success() {
            return Ok(Answer { headers: head.headers, body });
        }
        Err(Error::Problem(Box::new(problem(head.status.as_u16(), &body))))
    }
}

fn problem(status: u16, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        status: Some(status),
        code: "foreign-answer".to_owned(),
        title: "An answer that is not the server's".to_owned(),
        detail: format!("the answer has status {status} and no problem object"),
        request_id: None,
        retryable: false,
        side_effects: "possible".to_owned(),
        extras: serde_json::Map::default(),
    })
}

impl Answer {
    /// A number in a header.
    ///
    /// # Errors
    /// [`Error::Answer`] if it is not there.
    pub(crate) fn number(&self, name: &'static str) -> Result<u64, Error> {
        let text = self.headers.get(name).and_then(|value| value.to_str().ok());
        text.and_then(|text| text.parse().ok()).ok_or_else(|| unexpected(&format!("its header '{name}' is missing or no number")))
    }
}

/// A 2xx that is not what this version understands.
pub(crate) fn unexpected(reason: &str) -> Error {
    Error::Answer { call: "a request of the bench".to_owned(), reason: reason.to_owned() }
}
