//! Who may call before accounts exist (D26): no page of a foreign origin, and on loopback nobody under a foreign name.
//!
//! A page anywhere on the web can make a browser call `http://127.0.0.1:8080`: the browser then names the page's `Origin`. A page whose DNS
//! name was rebound to 127.0.0.1 is of the same origin to the browser: it then names a `Host` that is not ours.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Version};
use tidegate_types::ErrorCode;

use super::cors::Cors;
use crate::error::ApiError;
use crate::state::ApiConfig;

/// The names the node goes by.
#[derive(Debug)]
pub(super) struct Access {
    loopback: bool,
    /// Lower-case authorities, with or without port.
    own_hosts: Vec<String>,
}

impl Access {
    pub(super) fn new(config: &ApiConfig) -> Self {
        Self { loopback: config.loopback, own_hosts: config.own_hosts.iter().map(|host| host.to_ascii_lowercase()).collect() }
    }

    /// Refuses foreign hosts, and foreign origins unless they only read.
    ///
    /// # Errors
    /// 403 `host-not-allowed`, 403 `origin-not-allowed`, 400 `malformed-header`.
    pub(super) fn check(&self, request: &Request, cors: &Cors) -> Result<(), ApiError> {
        if is_everyday(request) {
            return Ok(());
        }
        let host = self.check_host(request)?;
        if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let mut origins = request.headers().get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return Ok(()); // No page of a browser.
        };
        let own = origins.next().is_none() && origin.to_str().is_ok_and(|origin| self.is_own(origin, host.as_ref()));
        if own || cors.allowed_origin(request.headers()).is_some() {
            return Ok(());
        }
        Err(ApiError::new(ErrorCode::OriginNotAllowed, "pages of this origin may only read; `cors.origins` lists those that may do more"))
    }

    fn check_host(&self, request: &Request) -> Result<Option<Authority>, ApiError> {
        let stated = stated_host(request.headers())?;
        // The target names the host in HTTP/2, and in HTTP/1.1 as proxies get it; then it counts, and the header must not say otherwise.
        let target = request.uri().authority().cloned();
        let missing = target.is_none() && stated.is_none();
        if missing && request.version() > Version::HTTP_10 {
            return Err(ApiError::malformed_header("host", "it is missing"));
        }
        if self.loopback {
            for host in [&target, &stated].into_iter().flatten() {
                if !is_loopback(host) && !self.is_listed(host) {
                    let detail = "the node listens on loopback and goes by localhost, 127.0.0.1 and [::1] only";
                    return Err(ApiError::new(ErrorCode::HostNotAllowed, detail));
                }
            }
        }
        Ok(target.or(stated))
    }

    /// Whether a page of `origin` came from this node itself: it names what the request was sent to, and that is ours to go by.
    fn is_own(&self, origin: &str, host: Option<&Authority>) -> bool {
        let lower = origin.to_ascii_lowercase();
        let Some((authority, port)) = split_origin(&lower) else {
            return false;
        };
        if self.is_listed(&authority) {
            return true;
        }
        let Some(host) = host else {
            return false;
        };
        // A name that is not listed may be anybody's, rebound to our address; an address is nobody else's.
        let trusted = is_loopback(host) || is_address(host) || self.is_listed(host);
        trusted
            && host.host().eq_ignore_ascii_case(authority.host())
            && host.port_u16().unwrap_or(port) == authority.port_u16().unwrap_or(port)
    }

    fn is_listed(&self, authority: &Authority) -> bool {
        let matches = |own: &String| own.eq_ignore_ascii_case(authority.as_str()) || own.eq_ignore_ascii_case(authority.host());
        self.own_hosts.iter().any(matches)
    }
}

/// Whether this is what nearly all requests on loopback look like: one `Host`, plainly loopback, no other host in the target, and no page of a
/// browser. The rules below come to the same; this is a twentieth of their work.
fn is_everyday(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let plain = hosts.next().is_some_and(|host| is_plainly_loopback(host.as_bytes())) && hosts.next().is_none();
    plain && request.uri().authority().is_none() && !request.headers().contains_key(ORIGIN)
}

/// `localhost`, `127.0.0.1` or `[::1]`, with a port or without.
fn is_plainly_loopback(host: &[u8]) -> bool {
    [b"localhost".as_slice(), b"127.0.0.1", b"[::1]"].iter().any(|name| match host.strip_prefix(*name) {
        Some([b':', port @ ..]) => (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit),
        rest => rest.is_some_and(<[u8]>::is_empty),
    })
}

/// The `Host` header, at most one.
fn stated_host(headers: &HeaderMap) -> Result<Option<Authority>, ApiError> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return Ok(None);
    };
    let malformed = || ApiError::malformed_header("host", "it is one host, with a port or without");
    if hosts.next().is_some() {
        return Err(malformed());
    }
    let authority: Authority = host.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
    if authority.as_str().contains('@') {
        return Err(malformed());
    }
    Ok(Some(authority))
}

/// The authority of `http://host:port`, and the port that its scheme stands for.
fn split_origin(origin: &str) -> Option<(Authority, u16)> {
    let (rest, port) = match origin.strip_prefix("http://") {
        Some(rest) => (rest, 80),
        None => (origin.strip_prefix("https://")?, 443),
    };
    Some((rest.parse().ok()?, port))
}

fn address(authority: &Authority) -> Option<IpAddr> {
    authority.host().trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_address(authority: &Authority) -> bool {
    address(authority).is_some()
}

/// `localhost`, a name below it (RFC 6761: always this machine), or a loopback address.
fn is_loopback(authority: &Authority) -> bool {
    let name = authority.host().trim_end_matches('.');
    let local = |name: &str| name.eq_ignore_ascii_case("localhost");
    local(name) || name.rsplit_once('.').is_some_and(|(_, last)| local(last)) || address(authority).is_some_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn check(config: &ApiConfig, method: Method, headers: &[(&str, &str)]) -> Result<(), ErrorCode> {
        let mut request = Request::builder().method(method).uri("/v1/topics");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        Access::new(config).check(&request, &Cors::new(&config.cors_origins)).map_err(|error| error.code())
    }

    /// A promise: on a loopback listener only loopback names get in, whatever the method.
    #[test]
    fn foreign_hosts_are_refused_on_loopback() {
        let config = ApiConfig { own_hosts: vec!["Node-1.example:8080".into()], ..ApiConfig::default() };
        for good in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "app.localhost", "node-1.example:8080"] {
            assert_eq!(check(&config, Method::GET, &[("host", good)]), Ok(()), "{good}");
        }
        for bad in
            ["evil.example", "localhost.evil.example", "evil-localhost", "10.0.0.1", "127.0.0.1.evil.example:8080", "node-1.example:9"]
        {
            assert_eq!(check(&config, Method::GET, &[("host", bad)]), Err(ErrorCode::HostNotAllowed), "{bad}");
        }
        assert_eq!(check(&config, Method::GET, &[]), Err(ErrorCode::MalformedHeader));
        assert_eq!(check(&config, Method::GET, &[("host", "localhost"), ("host", "localhost")]), Err(ErrorCode::MalformedHeader));
        assert_eq!(check(&config, Method::GET, &[("host", "evil.example@localhost")]), Err(ErrorCode::MalformedHeader));
        let open = ApiConfig { loopback: false, ..ApiConfig::default() };
        assert_eq!(check(&open, Method::GET, &[("host", "node.example")]), Ok(()));
    }

    /// A promise: a page of another origin writes nothing unless it is configured, and reading is not refused.
    #[test]
    fn foreign_origins_only_read() {
        let config = ApiConfig { cors_origins: vec!["https://app.example".into()], ..ApiConfig::default() };
        let call = |method, origin| check(&config, method, &[("host", "localhost:8080"), ("origin", origin)]);
        for own in ["http://localhost:8080", "https://app.example"] {
            assert_eq!(call(Method::POST, own), Ok(()), "{own}");
        }
        for foreign in [
            "http://localhost:3000",
            "http://localhost",
            "https://evil.example",
            "null",
            "http://127.0.0.1:8080",
            "ftp://localhost:8080",
            "https://app.example.evil",
        ] {
            assert_eq!(call(Method::POST, foreign), Err(ErrorCode::OriginNotAllowed), "{foreign}");
            assert_eq!(call(Method::DELETE, foreign), Err(ErrorCode::OriginNotAllowed), "{foreign}");
            assert_eq!(call(Method::GET, foreign), Ok(()), "{foreign}");
        }
        assert_eq!(check(&config, Method::POST, &[("host", "localhost:8080")]), Ok(()), "no browser");
    }

    /// A promise: beyond loopback a name that is not listed makes no origin our own, for it may be rebound; an address does.
    #[test]
    fn rebound_names_are_foreign() {
        let config = ApiConfig { loopback: false, own_hosts: vec!["tide.example".into()], ..ApiConfig::default() };
        let call = |host, origin| check(&config, Method::POST, &[("host", host), ("origin", origin)]);
        assert_eq!(call("evil.example:8080", "http://evil.example:8080"), Err(ErrorCode::OriginNotAllowed));
        assert_eq!(call("10.0.0.5:8080", "http://10.0.0.5:8080"), Ok(()));
        assert_eq!(call("10.0.0.5:8080", "http://tide.example"), Ok(()));
        assert_eq!(call("tide.example", "https://tide.example"), Ok(()));
    }
}
