//! Where a listener is: `CLIENT://host:port`, as Kafka writes listeners.

use std::fmt;
use std::net::IpAddr;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, the latter without brackets.
    pub host: String,
    /// 0 is any that is free.
    pub port: u16,
}

impl Address {
    /// Reads `host:port`; an IPv6 address stands in brackets, no host at all is every interface.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("'{text}' is no host:port"))?;
        let port = port.parse().map_err(|_| format!("'{port}' is no port (0 to 65535)"))?;
        let bare = match host.strip_prefix('[').map(|h| h.strip_suffix(']')) {
            Some(Some(inner)) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(format!("'{host}' is no IPv6 address in brackets")),
            None if host.is_empty() => "0.0.0.0",
            None if host.contains(':') => return Err(format!("the IPv6 address in '{text}' must stand in brackets")),
            None if host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) => host,
            None => return Err(format!("'{host}' is no host")),
        };
        Ok(Self { host: bare.to_owned(), port })
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether only this machine can reach it. A name other than `localhost` may mean anything, so it counts as reachable by others.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost") || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Whether it means every interface, so that nobody can call it by that.
    pub fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// The one client listener in a list as Kafka writes it.
pub(super) fn one_client(list: &str) -> Result<Address, String> {
    let mut found = None;
    for entry in super::definition::words(list) {
        let address = match entry.split_once("://") {
            None => entry,
            Some((name, address)) if name.eq_ignore_ascii_case("CLIENT") => address,
            Some((name, _)) if name.eq_ignore_ascii_case("PEER") => {
                return Err("a PEER listener has nobody to listen to in this version: a cluster has one node".to_owned());
            }
            Some((name, _)) => return Err(format!("there is no listener '{name}'; write CLIENT://host:port (HTTP, for everybody)")),
        };
        if found.replace(Address::parse(address)?).is_some() {
            return Err("a node has one client listener".to_owned());
        }
    }
    found.ok_or_else(|| "no listener is given".to_owned())
}
