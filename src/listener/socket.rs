//! The listening socket: bound here, or handed over by the service manager.

use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel has made and we have not accepted; Linux takes no more than `net.core.somaxconn`, 4,096
/// as a rule. A peer beyond it is not refused but forgotten, and finds out after a second or more: at tokio's own 1,024
/// a provider with a thousand connections was answered after up to 2 s now and then.
const BACKLOG: u32 = 4096;

/// As [`TcpListener::bind`], with our backlog.
///
/// # Errors
///
/// The system's error.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for connections of its predecessor that linger in the kernel.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The listening socket that systemd hands over (sd_listen_fds(3)): the first of those named by `$LISTEN_FDS`, if this is the
/// process that `$LISTEN_PID` means.
///
/// # Errors
///
/// When what was handed over is no TCP socket that listens.
pub fn handed_over() -> io::Result<Option<std::net::TcpListener>> {
    let mut sockets = listenfd::ListenFd::from_env();
    if sockets.len() == 0 {
        return Ok(None);
    }
    let socket = sockets.take_tcp_listener(0)?;
    if let Some(socket) = &socket {
        socket.set_nonblocking(true)?;
    }
    Ok(socket)
}
