use super::*;
use std::net::SocketAddr;
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout};

/// A listener that swallows what comes next: its accept queue is full, so that the kernel drops each SYN.
struct BlackHole {
    address: SocketAddr,
    _kept: (TcpListener, Vec<TcpStream>),
}

impl BlackHole {
    async fn at(address: SocketAddr) -> Self {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut kept = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            kept.push(connected.unwrap());
            assert!(kept.len() < 64, "its queue does not fill");
        }
        Self { address, _kept: (listener, kept) }
    }
}

/// A provider, and a swallowing address before its own, of the same port.
async fn provider_behind(dead: &str) -> (TcpListener, BlackHole) {
    let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = provider.local_addr().unwrap().port();
    let dead = BlackHole::at(SocketAddr::new(dead.parse().unwrap(), port)).await;
    (provider, dead)
}

#[tokio::test]
async fn an_address_that_swallows_packets_costs_neither_the_socket_nor_rest_their_connection() {
    for (dead, within) in [("127.0.0.2", 6), ("::1", 3)] {
        let (provider, dead) = provider_behind(dead).await;
        let address = provider.local_addr().unwrap();
        let connector = straight().with_host("localhost", &[dead.address, address]);
        let place = format!("localhost:{}", address.port());
        let dialer = dialer(&format!("ws://{place}"), connector.clone(), Arc::default());
        let rest = rest(&format!("http://{place}"), connector, Arc::default());
        let serving = async {
            for _ in 0..2 {
                let (socket, _) = provider.accept().await.unwrap();
                tokio::spawn(serve(socket));
            }
        };
        let started = Instant::now();
        let (opened, status, ()) = tokio::join!(soon(dialer.probe()), soon(rest.commerce_status()), soon(serving));
        assert_eq!(opened, Ok(()));
        assert_eq!(status.unwrap().view.status, "available");
        assert!(started.elapsed() < Duration::from_secs(within), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn the_addresses_that_do_not_answer_are_named() {
    let (provider, dead) = provider_behind("127.0.0.2").await;
    let port = provider.local_addr().unwrap().port();
    // Nobody listens at 127.0.0.3.
    let refusing = SocketAddr::new("127.0.0.3".parse().unwrap(), port);
    let connector = straight().with_host("localhost", &[dead.address, refusing]);
    let place = format!("localhost:{port}");
    let rest = rest(&format!("http://{place}"), connector.clone(), Arc::default());
    let dialer = dialer(&format!("ws://{place}"), connector, Arc::default());
    let (status, opened) = tokio::join!(soon(rest.commerce_status()), soon(dialer.probe()));
    let wanted = format!("no connection to {place} (127.0.0.2, 127.0.0.3): no answer in time");
    assert_eq!(opened, Err(wanted.clone()));
    assert_eq!(status.unwrap_err().to_string(), format!("no answer from the provider: {wanted}"));
}
