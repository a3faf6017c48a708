//! Where a server is: its address as people write it, and the URL of a call to it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

use crate::error::Error;

/// What is escaped in a segment of a path: everything but RFC 3986's unreserved characters, so that nobody on the way reads anything into it.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A server's address: `http://host:port`, perhaps with a path that all calls begin with, or `host:port` alone.
pub(crate) fn parse_server(address: &str) -> Result<Url, Error> {
    let refuse = |reason: &str| Error::Address { address: address.to_owned(), reason: reason.to_owned() };
    let has_scheme = address.contains("://");
    let whole = if has_scheme { address.to_owned() } else { format!("http://{address}") };
    let url = Url::parse(&whole).map_err(|error| refuse(&format!("{error}; an address looks like http://127.0.0.1:8080")))?;
    match url.scheme() {
        "http" if url.query().is_some() || url.fragment().is_some() => {
            Err(refuse("it has a query or a fragment, which belong to a call; an address looks like http://127.0.0.1:8080"))
        }
        "http" if url.has_host() => Ok(url),
        "http" => Err(refuse("it has no host")),
        other => Err(refuse(&format!("it begins with '{other}:', and this client speaks http only"))),
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// The first of the `segments` that no path can have: by the rules of URLs such a one leads elsewhere (RFC 3986, 5.2.4), and nothing is named so.
pub(crate) fn check<S: AsRef<str>>(segments: &[S]) -> Result<(), Error> {
    match segments.iter().map(AsRef::as_ref).find(|segment| matches!(*segment, "" | "." | "..")) {
        None => Ok(()),
        Some(wrong) => Err(Error::Input(format!("'{wrong}' is no name: nothing can be called so"))),
    }
}

/// The URL of `segments` at a server; each of them, which [`check`] has passed, stays one segment whatever is in it.
pub(crate) fn locate<S: AsRef<str>>(server: &Url, version: Option<&str>, segments: &[S]) -> Url {
    let mut path = server.path().trim_end_matches('/').to_owned();
    for segment in version.into_iter().chain(segments.iter().map(AsRef::as_ref)) {
        path.push('/');
        path.extend(utf8_percent_encode(segment, ESCAPED));
    }
    let mut url = server.clone();
    url.set_path(&path);
    url
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    /// A promise: an address that cannot work is refused before anything is sent, with the reason; a host and a port alone are one that can.
    #[test]
    fn addresses_are_checked() {
        for bad in
            ["", "https://x", "ftp://x", "http://", "http://x:99999", "x y:1", "http://x/?a=b", "http://x/#a", "https:x", ":80", "::1"]
        {
            assert!(matches!(parse_server(bad), Err(Error::Address { .. })), "{bad}");
        }
        for (given, wanted) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("localhost:8080", "http://localhost:8080/"),
            ("[::1]:8080", "http://[::1]:8080/"),
            ("node-1", "http://node-1/"),
            ("gateway:80/tidegate", "http://gateway/tidegate"),
            ("http://[::1]:8080/prefix/", "http://[::1]:8080/prefix/"),
        ] {
            assert_eq!(parse_server(given).unwrap().as_str(), wanted);
        }
    }

    /// A promise: what belongs to this machine needs no proxy, however it is written.
    #[test]
    fn loopback_is_recognised() {
        let is_loopback = |address: &str| is_loopback(&parse_server(address).unwrap());
        assert!(["localhost:1", "127.3.2.1:1", "[::1]:1"].into_iter().all(is_loopback));
        assert!(!["example.org", "10.0.0.1:1", "[2001:db8::1]:1"].into_iter().any(is_loopback));
    }

    /// A promise: a name that leads elsewhere on a path is refused, and only such a one.
    #[test]
    fn misleading_segments_are_refused() {
        for name in ["", ".", ".."] {
            assert!(matches!(check(&["topics", name]), Err(Error::Input(_))), "'{name}'");
        }
        assert!(check(&["topics", "...", ".a", "%2e%2e"]).is_ok());
    }

    proptest! {
        /// A promise: a name with any character in it stays one segment of the path, and arrives as it was.
        #[test]
        fn segments_are_escaped(names in prop::collection::vec(prop_oneof![any::<String>(), "[./%\\\\\t\n 2eE?#;:@&=+a]{1,6}"], 1..4)) {
            prop_assume!(check(&names).is_ok());
            let server = parse_server("http://127.0.0.1:1/base/").unwrap();
            let url = locate(&server, Some("v1"), &names);
            let found: Vec<String> =
                url.path_segments().unwrap().map(|segment| percent_decode_str(segment).decode_utf8().unwrap().into_owned()).collect();
            prop_assert_eq!(&found[..2], &["base", "v1"]);
            prop_assert_eq!(&found[2..], &names[..]);
            prop_assert_eq!((url.query(), url.fragment(), url.host_str()), (None, None, Some("127.0.0.1")));
        }
    }
}
