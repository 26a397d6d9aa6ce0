//! systemd's end of the notify protocol (sd_notify(3)).

use super::relay::until;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A socket that takes every datagram as it comes: one that is full would make the relay's next one fail.
pub struct Systemd {
    path: String,
    told: Arc<Mutex<Vec<String>>>,
    /// How many of them [`Systemd::next`] has passed.
    passed: usize,
    _folder: tempfile::TempDir,
}

impl Systemd {
    /// Listens from now on; its thread ends with the test.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket");
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::downgrade(&told);
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Some(told) = heard.upgrade() {
                if let Ok(length) = socket.recv(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    told.lock().expect("whole").push(text);
                }
            }
        });
        Self { path: path.to_str().expect("UTF-8").to_owned(), told, passed: 0, _folder: folder }
    }

    /// For `NOTIFY_SOCKET`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The next datagram that begins so, waited for; those before it are passed.
    pub async fn next(&mut self, beginning: &str) -> String {
        let mut found = None;
        until(beginning, || {
            let told = self.told();
            found = told.iter().enumerate().skip(self.passed).find(|(_, text)| text.starts_with(beginning)).map(
                |(at, text)| {
                    self.passed = at + 1;
                    text.clone()
                },
            );
            found.is_some()
        })
        .await;
        found.expect("awaited")
    }

    /// Every datagram so far.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().expect("whole").clone()
    }
}
