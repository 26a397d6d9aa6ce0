//! Names to addresses, with what was found kept for messages.

use hyper_util::client::legacy::connect::dns::Name;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tower_service::Service;

/// Addresses of a family that are tried; they share the time of the family.
const FAMILY_MAX: usize = 4;

/// Resolves one name for one connection.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    hosts: Arc<HashMap<String, Vec<SocketAddr>>>,
    found: Found,
}

/// The addresses that a name has.
#[derive(Clone, Debug, Default)]
pub(super) struct Found(Arc<Mutex<Vec<SocketAddr>>>);

impl Resolver {
    pub(super) fn new(hosts: Arc<HashMap<String, Vec<SocketAddr>>>) -> Self {
        Self { hosts, found: Found::default() }
    }

    /// What this resolver will find.
    pub(super) fn found(&self) -> Found {
        self.found.clone()
    }
}

impl Found {
    /// `host:port`, and the addresses if the host is a name that has any.
    pub(super) fn place(&self, host: &str, port: u16) -> String {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
        if addresses.is_empty() || addresses == [bare(host)] {
            return format!("{host}:{port}");
        }
        format!("{host}:{port} ({})", addresses.join(", "))
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { hosts, found } = self.clone();
        Box::pin(async move {
            let all = match hosts.get(name.as_str()) {
                Some(addresses) => addresses.clone(),
                None => tokio::net::lookup_host((name.as_str(), 0)).await?.collect(),
            };
            let addresses = fewer(all);
            found.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&addresses);
            Ok(addresses.into_iter())
        })
    }
}

/// A host without the brackets of an IPv6 address.
pub(super) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The first addresses of each family, in their order.
fn fewer(all: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut four = 0;
    let mut six = 0;
    let fits = |address: &SocketAddr| {
        let count = if address.is_ipv4() { &mut four } else { &mut six };
        *count += 1;
        *count <= FAMILY_MAX
    };
    all.into_iter().filter(fits).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    #[test]
    fn each_family_has_a_few_addresses_in_their_order() {
        let all: Vec<SocketAddr> = (1..=9)
            .flat_map(|n| [format!("192.0.2.{n}:0"), format!("[2001:db8::{n}]:0")])
            .map(|address| address.parse().unwrap())
            .collect();
        let few = fewer(all.clone());
        assert_eq!(few, all[..8]);
        let found = Found(Arc::new(Mutex::new(few[..2].to_vec())));
        assert_eq!(found.place("api.example.com", 443), "api.example.com:443 (192.0.2.1, 2001:db8::1)");
        assert_eq!(Found::default().place("[::1]", 1), "[::1]:1");
    }
}
