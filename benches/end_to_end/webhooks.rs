//! A closed loop of signed requests: every connection sends its next one when it has its answer.

use super::load::Prepared;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Sends all of them over `connections` connections; how long each took in milliseconds. Every answer has to be 2xx.
pub fn send(address: SocketAddr, requests: &Prepared, connections: usize) -> Vec<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let next = Rc::new(Cell::new(0));
    let times = Rc::new(RefCell::new(Vec::with_capacity(requests.len())));
    runtime.block_on(async {
        let loops = (0..connections).map(|_| async {
            let mut socket = TcpStream::connect(address).await.expect("a connection");
            socket.set_nodelay(true).expect("a socket");
            let mut buffer = [0; 1024];
            while next.get() < requests.len() {
                let index = next.replace(next.get() + 1);
                let began = Instant::now();
                socket.write_all(requests.get(index)).await.expect("sent");
                answer(&mut socket, &mut buffer).await;
                times.borrow_mut().push(began.elapsed().as_secs_f64() * 1e3);
            }
        });
        LocalSet::new().run_until(futures::future::join_all(loops)).await;
    });
    times.take()
}

/// Reads one answer to its end.
async fn answer(socket: &mut TcpStream, buffer: &mut [u8; 1024]) {
    let mut filled = 0;
    loop {
        let read = socket.read(&mut buffer[filled..]).await.expect("an answer");
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&buffer[..filled]));
        filled += read;
        let text = std::str::from_utf8(&buffer[..filled]).expect("text");
        assert!(text.starts_with("HTTP/1.1 2") || filled < 12, "{text}");
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let named = head.lines().filter_map(|line| line.split_once(": "));
            let length = named.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            if body.len() >= length.and_then(|(_, length)| length.parse().ok()).expect("a length") {
                return;
            }
        }
    }
}
