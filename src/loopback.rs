//! Which hosts are this machine: what is sent there in clear is read by no other.

use std::net::IpAddr;

/// Whether `host` is `localhost` or an address of the loopback; an IPv6 address with or without its brackets.
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn names_and_addresses_of_this_machine_alone() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.0.0.2", "::1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "0.0.0.0", "[::]", "::2"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
