//! A provider that costs nothing: an event log that is empty, and a stream that plays prepared bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// An empty page, whatever is asked.
const PAGE: &str = r#"{"object":"list","data":[],"has_more":false}"#;

/// Bytes of one write: what a socket takes without much waiting.
const WRITE_BYTES: usize = 256 * 1024;

/// A listening provider.
pub struct Provider {
    address: SocketAddr,
    stream: Arc<Stream>,
}

/// The connection that frames go to, once there is one; who writes holds the lock.
#[derive(Default)]
struct Stream {
    socket: Mutex<Option<TcpStream>>,
    connected: Condvar,
}

impl Provider {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stream = Arc::new(Stream::default());
        let shared = Arc::clone(&stream);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let stream = Arc::clone(&shared);
                // A peer that goes away ends its thread.
                thread::spawn(move || drop(serve(&socket, &stream)));
            }
        });
        Self { address, stream }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The peer that was there has gone: frames wait for another one.
    pub fn forget(&self) {
        *self.stream.socket.lock().expect("a lock") = None;
    }

    /// Writes frames to the stream; returns when the system has taken them all.
    pub fn play(&self, frames: &[u8]) {
        let mut socket = self.stream.socket.lock().expect("a lock");
        while socket.is_none() {
            socket = self.stream.connected.wait(socket).expect("a lock");
        }
        let writer = socket.as_mut().expect("connected");
        for chunk in frames.chunks(WRITE_BYTES) {
            writer.write_all(chunk).expect("the relay reads");
        }
    }
}

fn serve(socket: &TcpStream, stream: &Stream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut writer = socket.try_clone()?;
    loop {
        let mut key = None;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("sec-websocket-key")
            {
                key = Some(value.trim().to_owned());
            }
        }
        if let Some(key) = key {
            let accept = derive_accept_key(key.as_bytes());
            // A player waits until the peer may receive it, and never writes to an earlier peer.
            let mut current = stream.socket.lock().expect("a lock");
            write!(
                writer,
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-accept: {accept}\r\n\r\n"
            )?;
            *current = Some(socket.try_clone()?);
            drop(current);
            stream.connected.notify_all();
            return answer_pings(&mut reader, stream);
        }
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", PAGE.len());
        writer.write_all((head + PAGE).as_bytes())?;
    }
}

/// The relay sends nothing but small control frames. Answers wait while frames are played: they must not come in
/// the middle of one, and frames are as good a sign of life.
fn answer_pings(reader: &mut impl Read, stream: &Stream) -> std::io::Result<()> {
    loop {
        let mut head = [0; 6];
        reader.read_exact(&mut head)?;
        let mut payload = vec![0; usize::from(head[1] & 0x7f)];
        reader.read_exact(&mut payload)?;
        let unmasked: Vec<u8> = payload.iter().zip(head[2..].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let mut socket = stream.socket.lock().expect("a lock");
        let Some(writer) = socket.as_mut() else { return Ok(()) };
        match head[0] & 0x0f {
            0x9 => writer.write_all(&[&[0x8a, unmasked.len() as u8], &unmasked[..]].concat())?,
            0x8 => return writer.write_all(&[&[0x88, unmasked.len() as u8], &unmasked[..]].concat()),
            _ => {}
        }
    }
}
