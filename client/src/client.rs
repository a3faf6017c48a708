//! Servers and connections: which server a call goes to, and how its answer is read.
//!
//! A call is sent once. If no connection can be made nothing was sent, so that the next server of the list is tried; a server that accepts and does not
//! answer, breaks off, or says that it (or what stands behind it) is away, costs this call, and the next one begins with another server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, Url};

use crate::address::{self, is_loopback, parse_server};
use crate::call::{ANSWER_BYTES, Answer, Bound, Call};
use crate::error::{Error, Problem};
use crate::routing::Routing;

/// How long a call may take if nothing else is said: longer than the longest long poll (55 s), shorter than forever.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(130);
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Room that an announced length gets before its bytes are there.
const ROOM_AT_ONCE: usize = 1 << 20;

/// A client of one or more servers. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    servers: Vec<Url>,
    /// Which server the next call begins with: the one that answered last, or the one after it if that was in trouble.
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

/// Whether the server that this came from, or what stands before it, does not serve just now, so that another one should be asked.
fn is_servers_trouble(error: &Error) -> bool {
    match error {
        Error::Timeout(_) | Error::Broken(_) => true,
        Error::Problem(problem) => matches!(problem.status, Some(502..=504)),
        Error::Address { .. } | Error::Input(_) | Error::Connect { .. } | Error::Answer { .. } => false,
    }
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

impl Client {
    /// A client of one server, such as `http://127.0.0.1:8080`, or `127.0.0.1:8080`.
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
        let (place, outcome) = self.open(call).await?;
        let answer = match outcome {
            Ok(response) => self.whole(call, response).await,
            Err(error) => Err(error),
        };
        if answer.as_ref().is_err_and(is_servers_trouble) {
            self.turn_from(place);
        }
        answer
    }

    /// The same, to that server and no other; `None` is any.
    pub(crate) async fn send_at(&self, server: Option<&Url>, call: &Call) -> Result<Answer, Error> {
        let Some(server) = server else { return self.send(call).await };
        let answer = match self.request(server, call)?.send().await {
            Ok(response) => self.whole(call, response).await,
            Err(error) if error.is_connect() => Err(Error::Connect { addresses: server.to_string(), reason: causes(&error.without_url()) }),
            Err(error) => Err(self.broken(call, &error)),
        };
        if answer.as_ref().is_err_and(|error| is_servers_trouble(error) || matches!(error, Error::Connect { .. }))
            && let Some(place) = self.inner.servers.iter().position(|known| known == server)
        {
            self.turn_from(place);
        }
        answer
    }

    /// That server (`None` is the current one) did not answer in time.
    pub(crate) fn was_late(&self, server: Option<&Url>) {
        let place = match server {
            None => Some(self.inner.current.load(Ordering::Relaxed)),
            Some(server) => self.inner.servers.iter().position(|known| known == server),
        };
        place.into_iter().for_each(|place| self.turn_from(place));
    }

    /// How long the call may take.
    pub(crate) fn limit_of(&self, call: &Call) -> Duration {
        call.timeout.unwrap_or(self.inner.timeout)
    }

    /// How many servers the caller has named.
    pub(crate) fn server_count(&self) -> usize {
        self.inner.servers.len()
    }

    pub(crate) fn routing(&self) -> &Routing {
        &self.inner.routing
    }

    /// The next call to any server begins with the one after `place`, unless another one is current already.
    fn turn_from(&self, place: usize) {
        let next = (place + 1) % self.inner.servers.len();
        // If it is another one already, somebody else has seen to it.
        let _ = self.inner.current.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn whole(&self, call: &Call, response: Response) -> Result<Answer, Error> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let is_success = (200..300).contains(&status);
        let bound = if is_success { call.bound } else { Bound::Bytes(ANSWER_BYTES) };
        let body = self.body(call, response, bound).await?;
        if is_success {
            return Ok(Answer { call: call.describe(), status, headers, body });
        }
        let is_problem = headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"));
        let problem: Option<Problem> = if is_problem { serde_json::from_slice(&body).ok() } else { None };
        let mut problem = problem.unwrap_or_else(|| Problem::foreign(status));
        problem.status.get_or_insert(status);
        Err(Error::Problem(Box::new(problem)))
    }

    /// The answer's body, as far as it is one that was asked for.
    async fn body(&self, call: &Call, mut response: Response, bound: Bound) -> Result<Bytes, Error> {
        let announced = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
        let mut body = BytesMut::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.broken(call, &error))? {
            if body.is_empty() {
                // What is announced need not come.
                body.reserve(announced.min(ROOM_AT_ONCE));
            }
            body.extend_from_slice(&part);
            let limit = bound.bytes(&body);
            if body.len() > limit {
                return Err(Error::Answer {
                    call: call.describe(),
                    reason: format!("it has more than the {limit} bytes that the answer to this call can have"),
                });
            }
        }
        Ok(body.freeze())
    }

    /// Sends `call` to the server that is current or, while no connection can be made (so that nothing was sent), to the others in turn. Gives the place
    /// of the server that it was sent to, and what came of it.
    async fn open(&self, call: &Call) -> Result<(usize, Result<Response, Error>), Error> {
        let servers = &self.inner.servers;
        let first = self.inner.current.load(Ordering::Relaxed);
        let mut reason = String::new();
        for place in (first..first + servers.len()).map(|n| n % servers.len()) {
            match self.request(&servers[place], call)?.send().await {
                Ok(response) => {
                    self.inner.current.store(place, Ordering::Relaxed);
                    return Ok((place, Ok(response)));
                }
                Err(error) if error.is_connect() => reason = innermost(&error),
                Err(error) => return Ok((place, Err(self.broken(call, &error)))),
            }
        }
        let addresses = servers.iter().map(|url| url.as_str().trim_end_matches('/')).collect::<Vec<_>>().join(", ");
        Err(Error::Connect { addresses, reason })
    }

    fn request(&self, server: &Url, call: &Call) -> Result<reqwest::RequestBuilder, Error> {
        address::check(&call.path)?;
        let url = address::locate(server, call.version, &call.path);
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
        Ok(request)
    }

    fn broken(&self, call: &Call, error: &reqwest::Error) -> Error {
        if error.is_timeout() { Error::Timeout(self.limit_of(call)) } else { Error::Broken(causes(error)) }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Method;

    use super::*;

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
