//! The real binary: started with a settings file, watched by its log lines, ended by signals.

use super::relay::{PATIENCE, Rig};
use pepay_relay::config::{Config, Secrets, Via};
use serde_json::Value;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// A running `pepay-relay run`; killed when dropped.
pub struct Process {
    child: Child,
    pid: u32,
    lines: watch::Receiver<Vec<Value>>,
    dir: TempDir,
}

impl Process {
    /// Starts it; [`Process::ready`] waits.
    pub fn start(rig: &Rig) -> Self {
        Self::start_with(rig, &[], &[])
    }

    /// The same with further arguments of `run` and more in its environment.
    pub fn start_with(rig: &Rig, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::spawn(&rig.config, &rig.secrets, None, arguments, environment, |command| command)
    }

    /// The same with a listening socket handed over, as systemd does (sd_listen_fds(3)).
    pub fn start_on(rig: &Rig, socket: &std::net::TcpListener) -> Self {
        let socket = std::os::fd::OwnedFd::from(socket.try_clone().expect("a descriptor"));
        Self::spawn(&rig.config, &rig.secrets, None, &[], &[], |command| {
            let mut command = under(&command, "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"");
            command.stdin(socket);
            command
        })
    }

    /// The same under a limit of open files, soft and hard.
    pub fn start_limited(rig: &Rig, files: usize) -> Self {
        Self::spawn(&rig.config, &rig.secrets, None, &[], &[], |command| {
            let mut command = under(&command, &format!("ulimit -n {files}; exec \"$0\" \"$@\""));
            command.stdin(Stdio::null());
            command
        })
    }

    /// The same without a rig; `log` takes its lines from a level on, at the end of a file. Only those that are no
    /// detail are remembered as well.
    pub fn launch(config: &Config, secrets: &Secrets, log: Option<(&str, &Path)>, arguments: &[&str]) -> Self {
        Self::spawn(config, secrets, log, arguments, &[], |command| command)
    }

    fn spawn(
        config: &Config,
        secrets: &Secrets,
        log: Option<(&str, &Path)>,
        arguments: &[&str],
        environment: &[(&str, &str)],
        wrap: impl FnOnce(Command) -> Command,
    ) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut command = command(config, secrets, &dir);
        command.arg("run").args(arguments);
        if let Some((level, _)) = log {
            command.args(["--log-level", level]);
        }
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null());
        let mut command = wrap(command);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the binary");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (sender, lines) = watch::channel(Vec::new());
        let mut log =
            log.map(|(_, path)| OpenOptions::new().create(true).append(true).open(path).expect("the log's file"));
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                if let Some(log) = &mut log {
                    writeln!(log, "{line}").expect("the log's file");
                }
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if line["level"] != "DEBUG" && line["level"] != "TRACE" {
                    sender.send_modify(|lines| lines.push(line));
                }
            }
        });
        Self { pid: child.id().expect("running"), child, lines, dir }
    }

    /// Starts it and waits until it relays.
    pub async fn ready(rig: &Rig) -> Self {
        let mut process = Self::start(rig);
        process.line("relay ready").await;
        process
    }

    /// Writes these settings into its file.
    pub fn configure(&self, config: &Config) {
        std::fs::write(self.dir.path().join("relay.toml"), settings(config)).expect("settings");
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The first log line with this message, waited for.
    pub async fn line(&mut self, message: &str) -> Value {
        self.line_that(message, |said| said == message).await
    }

    /// The first log line whose message begins so, waited for.
    pub async fn line_of(&mut self, message: &str) -> Value {
        self.line_that(message, |said| said.starts_with(message)).await
    }

    /// The first log line with this message in which `field` contains `words`, waited for.
    pub async fn line_with(&mut self, message: &str, field: &str, words: &str) -> Value {
        let found =
            |line: &Value| line["message"] == message && line[field].as_str().is_some_and(|text| text.contains(words));
        let waited = tokio::time::timeout(PATIENCE, self.lines.wait_for(|lines| lines.iter().any(found))).await;
        let line = waited.ok().and_then(Result::ok).and_then(|lines| lines.iter().find(|line| found(line)).cloned());
        line.unwrap_or_else(|| panic!("never said {message:?} with {words:?}:\n{}", self.said()))
    }

    async fn line_that(&mut self, message: &str, is_it: impl Fn(&str) -> bool) -> Value {
        let said = |lines: &Vec<Value>| lines.iter().find(|line| line["message"].as_str().is_some_and(&is_it)).cloned();
        let waited = tokio::time::timeout(PATIENCE, self.lines.wait_for(|lines| said(lines).is_some())).await;
        let found = waited.ok().and_then(Result::ok).and_then(|lines| said(&lines));
        found.unwrap_or_else(|| panic!("never said {message:?}:\n{}", self.said()))
    }

    /// One more log line with this message than there is now, waited for.
    pub async fn another(&mut self, message: &str) {
        let count = |lines: &Vec<Value>| lines.iter().filter(|line| line["message"] == message).count();
        let now = self.count(message);
        let more = tokio::time::timeout(PATIENCE, self.lines.wait_for(|lines| count(lines) > now)).await;
        assert!(more.is_ok_and(|said| said.is_ok()), "never said {message:?} again:\n{}", self.said());
    }

    /// How many log lines so far have this message.
    pub fn count(&self, message: &str) -> usize {
        self.lines.borrow().iter().filter(|line| line["message"] == message).count()
    }

    /// Whether it serves a shard of its cluster, by its last log line about it: one that is taken away before it is
    /// ready is left as well.
    pub fn serves(&self, shard: i32) -> bool {
        const READY: &str = "relay ready";
        let said = [READY, "shard left", "shard let go: another node holds it"];
        self.last_word(&said, |line| line["shard"] == shard).is_some_and(|said| said == READY)
    }

    /// Whether the group has assigned its shards to it, and not taken them away without a word.
    pub fn is_assigned(&self) -> bool {
        const ASSIGNED: &str = "shards assigned";
        let said = [ASSIGNED, "shards lost: the group's coordinator was silent, or this node was"];
        self.last_word(&said, |_| true).is_some_and(|said| said == ASSIGNED)
    }

    /// Which of these messages came last, in a line of which this holds.
    fn last_word<'m>(&self, messages: &[&'m str], holds: impl Fn(&Value) -> bool) -> Option<&'m str> {
        let lines = self.lines.borrow();
        let mut held = lines.iter().rev().filter(|line| holds(line));
        held.find_map(|line| messages.iter().copied().find(|message| line["message"] == *message))
    }

    /// Everything logged so far.
    pub fn said(&self) -> String {
        self.lines.borrow().iter().map(|line| format!("{line}\n")).collect()
    }

    /// Sends a signal: `TERM`, `KILL`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).status();
        assert!(sent.expect("kill").success());
    }

    /// Its exit status, waited for; `None` when a signal ended it.
    pub async fn ended(&mut self) -> Option<i32> {
        self.ended_within(PATIENCE).await
    }

    pub async fn ended_within(&mut self, time: Duration) -> Option<i32> {
        let ended = tokio::time::timeout(time, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("still running after {time:?}:\n{}", self.said())).expect("wait");
        // The last lines are read once its end of the pipe is closed.
        let _ = tokio::time::timeout(PATIENCE, async { while self.lines.changed().await.is_ok() {} }).await;
        status.code()
    }

    /// Its exit status if it has ended, as [`Process::ended`] has it.
    pub async fn has_ended(&mut self) -> Option<Option<i32>> {
        match self.child.try_wait().expect("wait") {
            Some(_) => Some(self.ended().await),
            None => None,
        }
    }

    /// SIGTERM: everything is settled, and it logs that.
    pub async fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.ended().await, Some(0), "{}", self.said());
        self.line("stopped").await;
    }
}

/// The same program, arguments and environment behind a line of a shell, whose process it becomes.
fn under(command: &Command, line: &str) -> Command {
    let wrapped = command.as_std();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).arg(wrapped.get_program()).args(wrapped.get_args()).env_clear();
    shell.envs(wrapped.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

/// `pepay-relay check` with the settings of a rig: its exit status, and its findings.
pub async fn check(rig: &Rig) -> (Option<i32>, String) {
    let (status, findings, _) = run(rig, &["check"]).await;
    (status, findings)
}

/// Another command with the rig's settings, to its end: exit status, stdout and stderr.
pub async fn run(rig: &Rig, arguments: &[&str]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut command = command(&rig.config, &rig.secrets, &dir);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE * 2, command.output()).await.expect("in time").expect("the binary");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The binary with these settings, in a file in `dir`, and these secrets; those that are empty are elsewhere.
pub fn command(config: &Config, secrets: &Secrets, dir: &TempDir) -> Command {
    let file = dir.path().join("relay.toml");
    std::fs::write(&file, settings(config)).expect("settings");
    let mut command = Command::new(binary());
    command.args(["--log-format", "json", "--config"]).arg(&file).env_clear();
    let sole = config.accounts.is_empty();
    if sole && config.secret_files.api_key.is_none() && !expose(&secrets.accounts[0].api_key).is_empty() {
        command.env("PEPAY_RELAY_API_KEY", expose(&secrets.accounts[0].api_key));
    }
    if sole && config.secret_files.webhook.is_none() && !secrets.accounts[0].webhook.is_empty() {
        command.env(
            "PEPAY_RELAY_WEBHOOK_SECRETS",
            secrets.accounts[0].webhook.iter().map(expose).collect::<Vec<_>>().join(","),
        );
    }
    if let Some(password) = &secrets.kafka_password {
        command.env("PEPAY_RELAY_KAFKA_PASSWORD", expose(password));
    }
    if let Some(secret) =
        secrets.kafka_oauth_secret.as_ref().filter(|_| config.secret_files.kafka_oauth_secret.is_none())
    {
        command.env("PEPAY_RELAY_KAFKA_OAUTH_SECRET", expose(secret));
    }
    command
}

/// The binary of this build; every second start takes the older one, where `CHAOS_OLDER` names it.
#[expect(clippy::disallowed_methods, reason = "what to run is not a setting of the relay")]
fn binary() -> OsString {
    static STARTS: AtomicUsize = AtomicUsize::new(0);
    let older = std::env::var_os("CHAOS_OLDER").filter(|_| STARTS.fetch_add(1, Ordering::Relaxed) % 2 == 1);
    older.unwrap_or_else(|| env!("CARGO_BIN_EXE_pepay-relay").into())
}

fn expose(secret: &secrecy::SecretString) -> &str {
    secrecy::ExposeSecret::expose_secret(secret)
}

/// The settings as a file.
fn settings(config: &Config) -> String {
    let Config { name, provider, websocket, webhook, backfill, dedup, intake, kafka, admin, shutdown, .. } = config;
    let ms = Duration::as_millis;
    let api_url = &provider.api_url;
    let websocket_url = &provider.websocket_url;
    let topics = &kafka.topics;
    let file = |name: &str, path: &Option<PathBuf>| {
        path.as_ref().map_or_else(String::new, |path| format!("{name} = \"{}\"\n", path.display()))
    };
    let mut text = format!(
        "name = \"{name}\"\n\
         [provider]\napi_url = \"{api_url}\"\nwebsocket_url = \"{websocket_url}\"\nenvironment = \"devnet\"\n{}\
         [websocket]\nenabled = {}\nping_interval = \"{}ms\"\nidle_timeout = \"{}ms\"\nbackoff_min = \"{}ms\"\nbackoff_max = \"{}ms\"\nframe_bytes_max = \"{}KiB\"\n\
         [webhook]\nvia = {}\n{}listen = \"{}\"\nconnections_max = {}\nconnections_per_address_max = {}\nbody_bytes_max = \"{}KiB\"\nbody_timeout = \"{}ms\"\nanswer_within = \"{}ms\"\n\
         [backfill]\nevery = \"{}ms\"\noverlap = \"{}ms\"\nhold_max = \"{}ms\"\nfirst_start = \"{}ms\"\n\
         [intake]\nbytes_max = \"{}KiB\"\n\
         [admin]\nlisten = \"{}\"\n\
         [dedup]\nids_max = {}\n\
         [shutdown]\ndeadline = \"{}ms\"\n\
         [kafka]\nbootstrap_servers = \"{}\"\n",
        file("api_key_file", &config.secret_files.api_key),
        websocket.enabled,
        ms(&websocket.ping_interval),
        ms(&websocket.idle_timeout),
        ms(&websocket.backoff_min),
        ms(&websocket.backoff_max),
        websocket.frame_bytes_max >> 10,
        if webhook.via == Via::Inbox { "\"inbox\"" } else { "\"direct\"" },
        file("secrets_file", &config.secret_files.webhook),
        webhook.listen,
        webhook.connections_max,
        webhook.connections_per_address_max,
        webhook.body_bytes_max >> 10,
        ms(&webhook.body_timeout),
        ms(&webhook.answer_within),
        ms(&backfill.every),
        ms(&backfill.overlap),
        ms(&backfill.hold_max),
        ms(&backfill.first_start),
        intake.bytes_max >> 10,
        admin.listen,
        dedup.ids_max,
        ms(&shutdown.deadline),
        kafka.bootstrap_servers,
    );
    text += &file("password_file", &config.secret_files.kafka_password);
    let options: Vec<_> = kafka.options.iter().map(|(name, value)| format!("\"{name}\" = \"{value}\"")).collect();
    text += &format!("options = {{ {} }}\n", options.join(", "));
    text += &format!("tls = {}\n{}", kafka.tls, file("ca_file", &kafka.ca_file));
    text += &file("tls_cert_file", &kafka.tls_cert_file);
    text += &file("tls_key_file", &kafka.tls_key_file);
    text += &file("tls_key_password_file", &config.secret_files.kafka_key_password);
    text += &file("oauth_secret_file", &config.secret_files.kafka_oauth_secret);
    for (key, value) in [
        ("username", &kafka.username),
        ("sasl_mechanism", &kafka.sasl_mechanism),
        ("oauth_token_url", &kafka.oauth_token_url),
        ("oauth_client_id", &kafka.oauth_client_id),
        ("oauth_scope", &kafka.oauth_scope),
        ("oauth_extensions", &kafka.oauth_extensions),
        ("schema_registry_url", &kafka.schema_registry_url),
    ] {
        text += &value.as_ref().map_or_else(String::new, |value| format!("{key} = \"{value}\"\n"));
    }
    for account in &config.accounts {
        text += &format!("[accounts.{}]\n", account.name);
        text += &file("api_key_file", &account.api_key_file);
        text += &file("webhook_secrets_file", &account.webhook_secrets_file);
    }
    text + &format!(
        "[kafka.topics]\norders = \"{}\"\norders_latest = \"{}\"\ninvoices = \"{}\"\ndead_letter = \"{}\"\ncontrol = \"{}\"\n",
        topics.orders, topics.orders_latest, topics.invoices, topics.dead_letter, topics.control
    ) + &inbox(config)
}

/// The settings of the inbox and the cluster, where there is one; the last section is `[kafka.topics]`.
fn inbox(config: &Config) -> String {
    let Config { cluster, webhook, kafka, .. } = config;
    if webhook.via == Via::Direct {
        return String::new();
    }
    let inbox = format!("inbox = \"{}\"\n", kafka.topics.inbox);
    inbox
        + &match cluster.enabled {
            true => format!("[cluster]\nenabled = true\nnode = \"{}\"\nshards = {}\n", cluster.node, cluster.shards),
            false => String::new(),
        }
}
