//! Ports for listeners that another process opens, later and again.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::ops::Range;
use std::sync::Mutex;

/// Below those that the system gives on its own (Linux: from 32768, `ip_local_port_range` of ip(7)).
const PORTS: Range<u16> = 10_000..32_768;
/// As many taken ones in a row mean that something else is wrong.
const TRIES: usize = 1_000;

static HELD: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// An address of this machine that no other caller gets while this process lives, in this process or alongside it.
///
/// A port that the system gave and got back is given again, to a program that listens at port 0 or connects to somewhere:
/// before its listener is there, or while its listener is restarted. So the port is not one of the system's, and a
/// socket of UDP, which has ports of its own, holds the number.
pub fn free_address() -> SocketAddr {
    let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(PORTS)));
    for address in std::iter::repeat_with(address).take(TRIES) {
        let Ok(held) = UdpSocket::bind(address) else { continue };
        // Asked, not tried: a process that is forked meanwhile would have a listener of ours until it runs its program.
        if TcpStream::connect(address).is_err() {
            HELD.lock().expect("whole").push(held);
            return address;
        }
    }
    panic!("no port of {PORTS:?} was free in {TRIES} tries");
}
