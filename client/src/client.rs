//! Servers, connections, one request and its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Problem};
use crate::routing::Routing;

/// How long a call may take if nothing else is said: longer than the longest long poll (55 s), shorter than forever.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(130);
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// More than a server gives to any call: 64 MiB of records, in JSON.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// Room that an announced length gets before its bytes are there.
const ROOM_AT_ONCE: usize = 8 << 20;

/// A client of one or more servers. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    servers: Vec<Url>,
    /// Which server answered last: the next call begins with it.
    current: AtomicUsize,
    timeout: Duration,
    routing: Routing,
}

/// Makes a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    servers: Vec<String>,
    timeout: Duration,
}

impl ClientBuilder {
    /// Another server of the same cluster, to turn to when the others cannot be reached.
    #[must_use]
    pub fn server(mut self, address: &str) -> Self {
        self.servers.push(address.to_owned());
        self
    }

    /// How long one call may take, its answer's body included.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The client; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Address`] if an address is no `http://` URL.
    pub fn build(self) -> Result<Client, Error> {
        let servers = self.servers.iter().map(|address| parse_server(address)).collect::<Result<Vec<_>, _>>()?;
        // Nothing is to be repeated behind the caller's back, and what is on this machine needs no proxy.
        let mut http = reqwest::Client::builder()
            .http1_only()
            .tcp_nodelay(true)
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(self.timeout)
            .user_agent(concat!("tidegate-rust/", env!("CARGO_PKG_VERSION")));
        if servers.iter().all(is_loopback) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| Error::Input(format!("the HTTP client cannot be made: {}", causes(&error))))?;
        Ok(Client {
            inner: Arc::new(Inner { http, servers, current: AtomicUsize::new(0), timeout: self.timeout, routing: Routing::default() }),
        })
    }
}

pub(crate) fn parse_server(address: &str) -> Result<Url, Error> {
    let refuse = |reason: &str| Error::Address { address: address.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(address).map_err(|error| refuse(&format!("{error}; an address looks like http://127.0.0.1:8080")))?;
    match url.scheme() {
        "http" if url.has_host() => Ok(url),
        "http" => Err(refuse("it has no host")),
        other => Err(refuse(&format!("it begins with '{other}:', and this client speaks http only"))),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// An error with all that is behind it: the outer one alone seldom says what happened.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What is behind all of it: of a connection that did not come about, the layers above say nothing more.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// One request, before it is known which server gets it.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    /// `v1`, or nothing for what is outside the versioned API.
    version: Option<&'static str>,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<(HeaderValue, Bytes)>,
    timeout: Option<Duration>,
}

impl Call {
    /// A call without a body to `/v1/` and `path`; its segments are escaped here.
    pub(crate) fn new<S: AsRef<str>>(method: Method, path: impl IntoIterator<Item = S>) -> Self {
        Self {
            method,
            version: Some("v1"),
            path: path.into_iter().map(|s| s.as_ref().to_owned()).collect(),
            query: Vec::new(),
            body: None,
            timeout: None,
        }
    }

    /// A call without a body to `/` and `name`, outside the versioned API.
    pub(crate) fn unversioned(method: Method, name: &str) -> Self {
        Self { version: None, ..Self::new(method, [name]) }
    }

    pub(crate) fn query(mut self, name: &'static str, value: &(impl ToString + ?Sized)) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    pub(crate) fn query_if<T: ToString>(self, name: &'static str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.query(name, &value),
            None => self,
        }
    }

    pub(crate) fn body(mut self, content_type: &'static str, body: Bytes) -> Self {
        self.body = Some((HeaderValue::from_static(content_type), body));
        self
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body).map_err(|error| Error::Input(error.to_string()))?;
        Ok(self.body("application/json", body.into()))
    }

    /// How long it may take, instead of what the client was made with.
    pub(crate) fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn describe(&self) -> String {
        let path = self.version.into_iter().chain(self.path.iter().map(String::as_str)).collect::<Vec<_>>().join("/");
        format!("{} /{path}", self.method)
    }
}

/// A 2xx answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    call: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| self.unexpected(&self.foreign().unwrap_or_else(|| error.to_string())))
    }

    /// What to say of a body that was never meant to be JSON, as another kind of server gives.
    fn foreign(&self) -> Option<String> {
        let kind = self.headers.get(CONTENT_TYPE).map_or("without a content type", |value| value.to_str().unwrap_or_default());
        (!kind.contains("json")).then(|| format!("it is {kind}, not JSON; is it a Tidegate node that listens there?"))
    }

    /// A header that must be there and be readable as `T`.
    pub(crate) fn header<T: std::str::FromStr>(&self, name: &str) -> Result<T, Error> {
        let text = self.headers.get(name).and_then(|value| value.to_str().ok());
        text.and_then(|text| text.parse().ok()).ok_or_else(|| self.unexpected(&format!("its header '{name}' is missing or unreadable")))
    }

    pub(crate) fn unexpected(&self, reason: &str) -> Error {
        Error::Answer { call: self.call.clone(), reason: reason.to_owned() }
    }
}

impl Client {
    /// A client of one server, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// [`Error::Address`] if that is no `http://` URL.
    pub fn new(server: &str) -> Result<Self, Error> {
        Self::builder(server).build()
    }

    /// To add servers or set a timeout.
    pub fn builder(server: &str) -> ClientBuilder {
        ClientBuilder { servers: vec![server.to_owned()], timeout: TIMEOUT_DEFAULT }
    }

    /// Sends `call` and waits for the whole answer.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, Error> {
        self.whole(call, self.open(call).await?).await
    }

    /// The same, to that server and no other; `None` is any.
    pub(crate) async fn send_at(&self, server: Option<&Url>, call: &Call) -> Result<Answer, Error> {
        let Some(server) = server else { return self.send(call).await };
        let response = self.request(server, call).send().await.map_err(|error| {
            if error.is_connect() {
                Error::Connect { addresses: server.to_string(), reason: causes(&error.without_url()) }
            } else {
                self.broken(call, &error)
            }
        })?;
        self.whole(call, response).await
    }

    /// How long the call may take.
    pub(crate) fn limit_of(&self, call: &Call) -> Duration {
        call.timeout.unwrap_or(self.inner.timeout)
    }

    pub(crate) fn routing(&self) -> &Routing {
        &self.inner.routing
    }

    async fn whole(&self, call: &Call, response: Response) -> Result<Answer, Error> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = self.body(call, response).await?;
        if (200..300).contains(&status) {
            return Ok(Answer { call: call.describe(), status, headers, body });
        }
        let is_problem = headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"));
        let problem = if is_problem { serde_json::from_slice(&body).ok() } else { None };
        Err(Error::Problem(Box::new(problem.unwrap_or_else(|| Problem::foreign(status)))))
    }

    /// The answer's body, as far as it is one that may be kept in memory.
    async fn body(&self, call: &Call, mut response: Response) -> Result<Bytes, Error> {
        let too_long = || Error::Answer { call: call.describe(), reason: format!("it has more than {ANSWER_BYTES_MAX} bytes") };
        let announced = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
        if announced > ANSWER_BYTES_MAX {
            return Err(too_long());
        }
        // What is announced need not come.
        let mut body = BytesMut::with_capacity(announced.min(ROOM_AT_ONCE));
        while let Some(part) = response.chunk().await.map_err(|error| self.broken(call, &error))? {
            if body.len() + part.len() > ANSWER_BYTES_MAX {
                return Err(too_long());
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }

    /// Sends `call` to the server that answered last or, while no connection can be made (so that nothing was sent), to the others in turn.
    async fn open(&self, call: &Call) -> Result<Response, Error> {
        let servers = &self.inner.servers;
        let first = self.inner.current.load(Ordering::Relaxed);
        let mut reason = String::new();
        for place in (first..first + servers.len()).map(|n| n % servers.len()) {
            match self.request(&servers[place], call).send().await {
                Ok(response) => {
                    self.inner.current.store(place, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(error) if error.is_connect() => reason = innermost(&error),
                Err(error) => return Err(self.broken(call, &error)),
            }
        }
        let addresses = servers.iter().map(|url| url.as_str().trim_end_matches('/')).collect::<Vec<_>>().join(", ");
        Err(Error::Connect { addresses, reason })
    }

    fn request(&self, server: &Url, call: &Call) -> reqwest::RequestBuilder {
        let mut url = server.clone();
        // An `http` URL always has segments, so there is nothing else to do where it has none.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(call.version).extend(&call.path);
        }
        let mut request = self.inner.http.request(call.method.clone(), url);
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        if let Some((content_type, body)) = &call.body {
            request = request.header(CONTENT_TYPE, content_type).body(body.clone());
        }
        if let Some(timeout) = call.timeout {
            request = request.timeout(timeout);
        }
        request
    }

    fn broken(&self, call: &Call, error: &reqwest::Error) -> Error {
        if error.is_timeout() { Error::Timeout(self.limit_of(call)) } else { Error::Broken(causes(error)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: an address that cannot work is refused before anything is sent, with the reason.
    #[test]
    fn addresses_are_checked() {
        for bad in ["", "127.0.0.1:8080", "https://x", "ftp://x", "http://"] {
            assert!(matches!(Client::new(bad), Err(Error::Address { .. })), "{bad}");
        }
        assert!(Client::new("http://[::1]:8080/prefix/").is_ok());
    }

    /// A promise: a name with any character in it stays one segment of the path.
    #[test]
    fn segments_are_escaped() {
        let client = Client::new("http://127.0.0.1:1/base/").unwrap();
        let call = Call::new(Method::GET, ["topics", "a/b?c#d ..", "x"]).query("prefix", "a&b");
        let request = client.request(&client.inner.servers[0], &call).build().unwrap();
        assert_eq!(request.url().as_str(), "http://127.0.0.1:1/base/v1/topics/a%2Fb%3Fc%23d%20../x?prefix=a%26b");
    }

    /// A promise: when nobody listens, the error says that nothing was sent, and names all servers tried.
    #[tokio::test]
    async fn nobody_there() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = Client::builder(&format!("http://{closed}")).server(&format!("http://{closed}/2")).build().unwrap();
        let error = client.send(&Call::new(Method::GET, ["topics"])).await.unwrap_err();
        assert!(matches!(&error, Error::Connect { addresses, .. } if addresses.contains("/2")), "{error}");
        assert_eq!(error.side_effects(), tidegate_types::SideEffects::None);
    }
}
