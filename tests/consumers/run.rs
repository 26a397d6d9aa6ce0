//! A consumer as a process: its lines as they come, its end by force, its store as it is.

use super::workshop::{Program, shell};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Virtual machines and interpreters take seconds to start; all of them together on a loaded machine, minutes.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running consumer; killed when dropped.
pub struct Run {
    name: &'static str,
    child: Child,
    told: watch::Receiver<Vec<String>>,
    complaints: watch::Receiver<Vec<String>>,
}

impl Run {
    /// Starts `program` as a member of `group`, on topics that begin with `prefix`.
    pub fn start(program: &Program, folder: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::from(shell(&format!("exec {}", program.run), folder));
        command.envs(settings.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let told = lines(child.stdout.take().unwrap());
        let complaints = lines(child.stderr.take().unwrap());
        Self { name: program.folder, child, told, complaints }
    }

    /// Waits until it has printed `count` lines.
    pub async fn has_told(&mut self, count: usize) {
        let waited = tokio::time::timeout(PATIENCE, self.told.wait_for(|lines| lines.len() >= count)).await;
        let all = waited.is_ok_and(|told| told.is_ok());
        let told = self.told.borrow().len();
        let complaints = self.complaints.borrow().join("\n");
        assert!(all, "{}: {told} of {count} lines\n{complaints}", self.name);
    }

    /// Waits until it prints a line with these words on stderr.
    pub async fn complains(&mut self, words: &str) {
        let said = |lines: &Vec<String>| lines.iter().any(|line| line.contains(words));
        let waited = tokio::time::timeout(PATIENCE, self.complaints.wait_for(said)).await;
        let said = waited.is_ok_and(|said| said.is_ok());
        let complaints = self.complaints.borrow().join("\n");
        assert!(said, "{} never said {words:?}, but:\n{complaints}", self.name);
    }

    /// Kills it as a power cut does; what it has printed.
    pub async fn kill(mut self) -> Vec<String> {
        self.child.kill().await.unwrap();
        // What is still in the pipe is read to its end.
        while self.told.changed().await.is_ok() {}
        self.told.borrow().clone()
    }
}

fn lines(pipe: impl AsyncRead + Unpin + Send + 'static) -> watch::Receiver<Vec<String>> {
    let (sender, lines) = watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut pipe = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = pipe.next_line().await {
            sender.send_modify(|lines| lines.push(line));
        }
    });
    lines
}

/// A store that a consumer keeps.
pub struct Store(pub PathBuf);

impl Store {
    /// Waits until it holds as many events as were printed, and each order with the time and status of its newest
    /// event.
    pub async fn holds(&self, wanted: &Value) {
        let began = Instant::now();
        while self.read().as_ref() != Some(wanted) {
            assert!(began.elapsed() < PATIENCE, "{}: {:?}, not {wanted}", self.0.display(), self.read());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it holds; `None` while a transaction is being written.
    fn read(&self) -> Option<Value> {
        const SCRIPT: &str = "import json, sqlite3, sys\n\
            db = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True)\n\
            told = db.execute('SELECT count(*) FROM told').fetchone()[0]\n\
            orders = db.execute('SELECT * FROM orders').fetchall()\n\
            print(json.dumps([told, {order: [at, status] for order, at, status in orders}]))";
        let output = std::process::Command::new("python3").args(["-c", SCRIPT]).arg(&self.0).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }
}
