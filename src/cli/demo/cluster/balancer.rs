//! A load balancer in front of the nodes' webhooks: each connection goes to the next node that takes it.

use crate::exit::Exit;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// Connections at once; the simulated provider has a few, and further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// A running load balancer; it ends when dropped.
pub(super) struct Balancer {
    address: SocketAddr,
    task: AbortHandle,
}

impl Balancer {
    /// Starts it on a free port of the loopback, in front of these.
    pub(super) async fn start(nodes: Vec<SocketAddr>) -> Result<Self, Exit> {
        let bind = async {
            let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
            Ok((listener.local_addr()?, listener))
        };
        let failed = |error: std::io::Error| Exit::failed(format!("the load balancer does not start: {error}"));
        let (address, listener) = bind.await.map_err(failed)?;
        let task = tokio::spawn(accept(listener, nodes)).abort_handle();
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, mut nodes: Vec<SocketAddr>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        // The peer may be gone already; the next one is not.
        let Ok((peer, _)) = listener.accept().await else { continue };
        let nodes_now = nodes.clone();
        nodes.rotate_left(1);
        tokio::spawn(async move {
            forward(peer, nodes_now).await;
            drop(place);
        });
    }
}

/// Until one of the two is done. A connection that breaks is the provider's to make again, as with any balancer.
async fn forward(mut peer: TcpStream, nodes: Vec<SocketAddr>) {
    for node in nodes {
        if let Ok(mut node) = TcpStream::connect(node).await {
            let _ = copy_bidirectional(&mut peer, &mut node).await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_node_that_is_gone_is_passed_over() {
        let living = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nodes = vec![gone.local_addr().unwrap(), living.local_addr().unwrap()];
        drop(gone);
        let balancer = Balancer::start(nodes).await.unwrap();
        for _ in 0..2 {
            let mut peer = TcpStream::connect(balancer.address()).await.unwrap();
            peer.write_all(b"?").await.unwrap();
            let (mut node, _) = living.accept().await.unwrap();
            let mut asked = [0];
            node.read_exact(&mut asked).await.unwrap();
            node.write_all(b"!").await.unwrap();
            let mut answer = [0];
            peer.read_exact(&mut answer).await.unwrap();
            assert_eq!([asked, answer], [*b"?", *b"!"]);
        }
    }
}
