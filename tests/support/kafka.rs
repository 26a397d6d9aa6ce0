//! A real Kafka: one KRaft node of Apache Kafka, fetched by Maven, started on free ports.
//!
//! `PEPAY_RELAY_TEST_KAFKA=host:port` uses a given one where tests share a broker; tests that kill theirs start their
//! own. Without Java or Maven a test fails and names what is missing; nothing is skipped.

use super::ports::free_address;
use super::proxy::Proxy;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const JAVA: &str = "Java 17 is needed to run Kafka: apt install openjdk-17-jre-headless";
const MAVEN: &str = "Maven is needed to fetch Kafka: apt install maven";
const GIVEN: &str = "or name a running broker: PEPAY_RELAY_TEST_KAFKA=host:port";
/// A broker needs seconds; a loaded machine more.
const READY_MAX: Duration = Duration::from_secs(120);

/// A Kafka that is there within seconds and is soon gone: little memory, and no second compiler.
const BRIEF: &[&str] = &["-Xmx384m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// A Kafka that is measured: the flags of its own start script (`kafka-server-start.sh`, `kafka-run-class.sh`).
const LASTING: &[&str] = &[
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
];

/// Who may log in at the secured listener, by `PLAIN` and by `SCRAM-SHA-512`.
pub const USER: (&str, &str) = ("relay", "relay-password");
/// Logs in, and may do nothing.
pub const STRANGER: (&str, &str) = ("stranger", "stranger-password");

/// A broker of this test process; it dies with it, however it dies.
pub struct Broker {
    bootstrap: String,
    /// Flags of its virtual machine.
    flags: Vec<String>,
    secured: Option<Secured>,
    dir: Option<TempDir>,
    process: Option<Process>,
}

/// The listener with TLS, credentials and permissions.
#[derive(Clone)]
pub struct Secured {
    pub bootstrap: String,
    pub ca_file: PathBuf,
}

/// A shell that outlives the broker by nothing: it kills the broker when its standard input closes, which the kernel
/// does even when this process is killed.
struct Process {
    guard: Child,
    pid: u32,
}

const GUARD: &str = r#"exec 3<&0; "$@" </dev/null >/dev/null 2>&1 & pid=$!; echo $pid; exec >/dev/null 2>&1
read _ <&3 || gone=1; kill -9 $pid 2>/dev/null; wait $pid; [ -z "$gone" ] || rm -rf "$DIR""#;

impl Broker {
    /// The broker that tests of this binary share; each has its own topics.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| Self::given().unwrap_or_else(Self::start))
    }

    /// A broker to measure with.
    pub fn measured() -> Self {
        Self::given().unwrap_or_else(|| Self::launch(false, None, LASTING, "", &[]))
    }

    /// The same, which clients reach by this address alone; `towards` gets where it leads. What the broker asks its own
    /// coordinator, about each partition of a transaction (KIP-890), goes by a listener of its own.
    pub fn measured_behind(address: SocketAddr, towards: &dyn Fn(SocketAddr)) -> Self {
        let internal = free_address();
        let listeners = format!(
            "listeners=PLAINTEXT://127.0.0.1:{{plain}},INTERNAL://{internal},CONTROLLER://127.0.0.1:{{controller}}\n\
             advertised.listeners=PLAINTEXT://{address},INTERNAL://{internal}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=INTERNAL\n"
        );
        Self::launch(false, Some((address, towards)), LASTING, &listeners, &[])
    }

    /// A broker of its own, for a test that stops it.
    pub fn start() -> Self {
        Self::launch(false, None, BRIEF, "", &[])
    }

    /// One with these settings, which win over the usual ones; `{plain}` is the port of its listener, `{controller}` that of
    /// its controller.
    pub fn start_with(properties: &str) -> Self {
        Self::launch(false, None, BRIEF, properties, &[])
    }

    /// One that refuses settings of new topics: `mode` is one of `tests/kafka/TestPolicy.java`.
    pub fn start_with_policy(mode: &str) -> Self {
        let classes = format!("-Dtest.classes={}", policy().display());
        let mode = format!("-Dtest.policy={mode}");
        Self::launch(false, None, BRIEF, "create.topic.policy.class.name=TestPolicy\n", &[&classes, &mode])
    }

    /// A broker of its own with a second listener that wants TLS, credentials and permissions.
    pub fn start_secured() -> Self {
        Self::launch(true, None, BRIEF, "", &[])
    }

    /// A broker of its own that clients reach through `proxy` alone; [`Broker::bootstrap`] is the way around it.
    pub fn start_behind(proxy: &Proxy) -> Self {
        Self::launch(false, Some((proxy.address(), &|broker| proxy.towards(broker))), BRIEF, "", &[])
    }

    /// Another broker of the same cluster, with these settings.
    pub fn beside(&self, properties: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("pepay-relay-kafka-").tempdir().expect("temporary directory");
        let port = free_address().port();
        let first = self.dir.as_ref().expect("a broker of its own").path().join("server.properties");
        let first = fs::read_to_string(first).expect("settings");
        let controller =
            first.lines().find(|line| line.starts_with("controller.quorum.voters=")).expect("a controller");
        let settings = format!(
            "{}process.roles=broker\nnode.id=2\nlisteners=PLAINTEXT://127.0.0.1:{port}\n{controller}\n{properties}",
            settings(dir.path(), port, port)
        );
        fs::write(dir.path().join("server.properties"), settings).expect("settings");
        format(dir.path(), false, &self.flags);
        let process = run(dir.path(), &self.flags);
        let bootstrap = format!("127.0.0.1:{port}");
        wait_ready(&bootstrap);
        Self { bootstrap, flags: self.flags.clone(), secured: None, dir: Some(dir), process: Some(process) }
    }

    /// The one that the environment names.
    fn given() -> Option<Self> {
        #[expect(clippy::disallowed_methods, reason = "a setting of the tests, not of the relay")]
        let bootstrap = std::env::var("PEPAY_RELAY_TEST_KAFKA").ok()?;
        Some(Self { bootstrap, flags: Vec::new(), secured: None, dir: None, process: None })
    }

    /// Address of the listener without TLS and credentials.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The secured listener.
    pub fn secured(&self) -> &Secured {
        self.secured.as_ref().expect("started by start_secured")
    }

    /// Its process, where it is ours.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.pid)
    }

    /// Gives a user of `SCRAM-SHA-512` another password, as an administrator does.
    pub fn rotate(&self, user: &str, password: &str) {
        let credentials = format!("SCRAM-SHA-512=[password={password}]");
        self.alter(&["--add-config", &credentials, "--entity-type", "users", "--entity-name", user]);
    }

    /// Lets the client of this id send and read `rate` bytes a second; `None` ends that.
    pub fn quota(&self, client_id: &str, rate: Option<u32>) {
        let keys = ["producer_byte_rate", "consumer_byte_rate"];
        let (how, settings) = match rate {
            Some(rate) => ("--add-config", keys.map(|key| format!("{key}={rate}")).join(",")),
            None => ("--delete-config", keys.join(",")),
        };
        self.alter(&[how, &settings, "--entity-type", "clients", "--entity-name", client_id]);
    }

    /// Gives a topic another `cleanup.policy`.
    pub fn clean(&self, topic: &str, policy: &str) {
        let policy = format!("cleanup.policy={policy}");
        self.alter(&["--add-config", &policy, "--entity-type", "topics", "--entity-name", topic]);
    }

    /// Changes settings as an administrator does, with these arguments of `kafka-configs`.
    pub fn alter(&self, arguments: &[&str]) {
        let mut command = java(BRIEF);
        command.arg("kafka.admin.ConfigCommand").args(["--bootstrap-server", &self.bootstrap, "--alter"]);
        let done = command.args(arguments).output().expect(JAVA);
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// A copy of its data as they are at one instant.
    pub fn copy(&self) -> TempDir {
        let copy = tempfile::Builder::new().prefix("pepay-relay-kafka-copy-").tempdir().expect("temporary directory");
        self.freeze();
        copy_all(&self.data(), &copy.path().join("data"));
        self.thaw();
        copy
    }

    /// Makes it lose what it wrote since `copy` was made: everything, or what is in the partitions of these topics.
    /// It must not be running.
    pub fn lose_since(&self, copy: &TempDir, topics: Option<&[&str]>) {
        assert!(self.process.is_none(), "killed first");
        let data = self.data();
        let copied = copy.path().join("data");
        let Some(topics) = topics else {
            fs::remove_dir_all(&data).expect("the data");
            return copy_all(&copied, &data);
        };
        let mut lost = 0;
        for entry in fs::read_dir(&copied).expect("the copy") {
            let name = entry.expect("the copy").file_name().into_string().expect("UTF-8");
            let partition = name.rsplit_once('-').filter(|(topic, _)| topics.contains(topic));
            if partition.is_some_and(|(_, number)| number.parse::<u32>().is_ok()) {
                fs::remove_dir_all(data.join(&name)).expect("a partition");
                copy_all(&copied.join(&name), &data.join(&name));
                lost += 1;
            }
        }
        assert!(lost >= topics.len(), "{topics:?} have partitions");
    }

    fn data(&self) -> PathBuf {
        self.dir.as_ref().expect("a broker of its own").path().join("data")
    }

    /// Kills it, as a power cut does.
    pub fn kill(&mut self) {
        self.end("-KILL");
    }

    /// Stops it politely.
    pub fn stop(&mut self) {
        self.end("-TERM");
    }

    /// Freezes it: connections stay, nothing answers.
    pub fn freeze(&self) {
        signal("-STOP", self.process.as_ref().expect("running").pid);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        signal("-CONT", self.process.as_ref().expect("running").pid);
    }

    /// Starts it again, on the same data and ports; returns when it answers.
    pub fn restart(&mut self) {
        let dir = self.dir.as_ref().expect("a broker of its own").path().to_owned();
        self.process = Some(run(&dir, &self.flags));
        wait_ready(&self.bootstrap);
    }

    fn end(&mut self, how: &str) {
        let Some(mut process) = self.process.take() else { return };
        signal(how, process.pid);
        let began = Instant::now();
        while is_alive(process.pid) {
            assert!(began.elapsed() < READY_MAX, "the broker does not stop");
            #[expect(clippy::disallowed_methods, reason = "no child of ours: nobody tells when it is gone")]
            std::thread::sleep(Duration::from_millis(10));
        }
        // A line instead of the end of input: the data stay.
        process.guard.stdin.take().expect("piped").write_all(b"keep\n").expect("guard");
        process.guard.wait().expect("guard");
    }

    fn launch(
        secured: bool,
        behind: Option<(SocketAddr, &dyn Fn(SocketAddr))>,
        flags: &[&str],
        properties: &str,
        further: &[&str],
    ) -> Self {
        let flags: Vec<String> = flags.iter().chain(further).map(|flag| (*flag).to_owned()).collect();
        let dir = tempfile::Builder::new().prefix("pepay-relay-kafka-").tempdir().expect("temporary directory");
        let [plain, controller, sasl] = [(); 3].map(|()| free_address().port());
        let mut settings = settings(dir.path(), plain, controller);
        if secured {
            settings.push_str(&secure(dir.path(), plain, controller, sasl));
        }
        if let Some((address, towards)) = behind {
            settings.push_str(&format!("advertised.listeners=PLAINTEXT://{address}\n"));
            towards(([127, 0, 0, 1], plain).into());
        }
        let ports = [("{plain}", plain), ("{controller}", controller)];
        let properties =
            ports.iter().fold(properties.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
        settings.push_str(&properties);
        fs::write(dir.path().join("server.properties"), settings).expect("settings");
        format(dir.path(), secured, &flags);
        let bootstrap = format!("127.0.0.1:{plain}");
        let process = run(dir.path(), &flags);
        wait_ready(&bootstrap);
        let secured =
            secured.then(|| Secured { bootstrap: format!("127.0.0.1:{sasl}"), ca_file: dir.path().join("ca.pem") });
        Self { bootstrap, flags, secured, dir: Some(dir), process: Some(process) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end("-KILL");
    }
}

fn settings(dir: &Path, plain: u16, controller: u16) -> String {
    let data = dir.join("data");
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}\n\
         log.dirs={}\n\
         num.partitions=1\ndefault.replication.factor=1\nauto.create.topics.enable=false\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=1\ntransaction.abort.timed.out.transaction.cleanup.interval.ms=500\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\nbroker.session.timeout.ms=6000\n\
         unstable.api.versions.enable=false\n",
        data.display()
    )
}

fn secure(dir: &Path, plain: u16, controller: u16, sasl: u16) -> String {
    let store = dir.join("server.p12");
    let store = store.to_str().expect("UTF-8");
    let keytool = |arguments: &[&str]| {
        let done =
            Command::new("keytool").args(arguments).args(["-keystore", store, "-storepass", "changeit"]).output();
        assert!(done.expect(JAVA).status.success(), "keytool {arguments:?}");
    };
    let names = "san=ip:127.0.0.1,dns:localhost";
    keytool(&[
        "-genkeypair",
        "-alias",
        "k",
        "-keyalg",
        "EC",
        "-dname",
        "CN=localhost",
        "-ext",
        names,
        "-storetype",
        "PKCS12",
    ]);
    let ca = dir.join("ca.pem");
    keytool(&["-exportcert", "-rfc", "-alias", "k", "-file", ca.to_str().expect("UTF-8")]);
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{sasl}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL\n\
         inter.broker.listener.name=PLAINTEXT\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
         ssl.keystore.type=PKCS12\nssl.keystore.location={store}\nssl.keystore.password=changeit\n\
         listener.name.sasl_ssl.plain.sasl.jaas.config=\
         org.apache.kafka.common.security.plain.PlainLoginModule required user_{}=\"{}\" user_{}=\"{}\";\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS;User:{}\n",
        USER.0, USER.1, STRANGER.0, STRANGER.1, USER.0
    )
}

fn format(dir: &Path, secured: bool, flags: &[String]) {
    let mut command = java(flags);
    command.arg("kafka.tools.StorageTool").args(["format", "-t", "pepayRelayTestKafka00A", "-c"]);
    command.arg(dir.join("server.properties"));
    if secured {
        for (name, password) in [USER, STRANGER] {
            command.args(["--add-scram", &format!("SCRAM-SHA-512=[name={name},password={password}]")]);
        }
    }
    let done = command.output().expect(JAVA);
    assert!(done.status.success(), "formatting Kafka's storage: {}", String::from_utf8_lossy(&done.stderr));
}

fn run(dir: &Path, flags: &[String]) -> Process {
    let broker = java(flags);
    let mut guard = Command::new("sh");
    guard.args(["-c", GUARD, "sh"]).arg(broker.get_program()).args(broker.get_args());
    guard.arg("kafka.Kafka").arg(dir.join("server.properties")).env("DIR", dir);
    let mut guard = guard.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    let mut line = String::new();
    BufReader::new(guard.stdout.take().expect("piped")).read_line(&mut line).expect("the broker's pid");
    Process { pid: line.trim().parse().expect("a pid"), guard }
}

fn java<S: AsRef<str>>(flags: &[S]) -> Command {
    let mut command = Command::new("java");
    let flags = flags.iter().map(AsRef::as_ref);
    let classes: String =
        flags.clone().filter_map(|flag| flag.strip_prefix("-Dtest.classes=")).map(|dir| format!(":{dir}")).collect();
    command.args(flags).args(["-Xshare:auto", "-cp"]);
    command.arg(format!("{}/*{classes}", jars().display()));
    command
}

/// The directory of the policy's class, compiled once a process.
fn policy() -> &'static Path {
    static CLASSES: OnceLock<TempDir> = OnceLock::new();
    let compiled = CLASSES.get_or_init(|| {
        let dir = tempfile::tempdir().expect("temporary directory");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/TestPolicy.java");
        let done = Command::new("javac")
            .args(["-cp", &format!("{}/*", jars().display()), "-d"])
            .arg(dir.path())
            .arg(source)
            .output()
            .expect("a compiler of Java: apt install openjdk-17-jdk-headless");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        dir
    });
    compiled.path()
}

/// The directory of Kafka's jars, fetched once a version of the POM.
fn jars() -> &'static Path {
    static JARS: OnceLock<PathBuf> = OnceLock::new();
    JARS.get_or_init(|| {
        let java = Command::new("java").arg("-version").output();
        assert!(java.is_ok_and(|java| java.status.success()), "{JAVA}; {GIVEN}");
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/pom.xml");
        let wanted = fs::read_to_string(&pom).expect("tests/kafka/pom.xml");
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-kafka");
        fs::create_dir_all(&dir).expect("target/test-kafka");
        let lock = File::create(dir.join(".lock")).expect("lock file");
        lock.lock().expect("lock");
        let marker = dir.join("fetched-pom.xml");
        let jars = dir.join("jars");
        if fs::read_to_string(&marker).is_ok_and(|fetched| fetched == wanted) {
            return jars;
        }
        drop(fs::remove_dir_all(&jars));
        let done = Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(&pom)
            .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", jars.display()))
            .output()
            .unwrap_or_else(|error| panic!("{MAVEN} ({error}); {GIVEN}"));
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "Maven could not fetch Kafka; is Maven Central reachable? {said}");
        fs::write(&marker, wanted).expect("marker");
        jars
    })
}

fn wait_ready(bootstrap: &str) {
    let began = Instant::now();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.max.ms", "100")
        .set("log_level", "0")
        .create()
        .expect("a client");
    loop {
        if consumer.fetch_metadata(None, Duration::from_millis(500)).is_ok_and(|all| !all.brokers().is_empty()) {
            return;
        }
        assert!(began.elapsed() < READY_MAX, "Kafka at {bootstrap} is not ready");
    }
}

/// Also holes, which an index has many of.
fn copy_all(from: &Path, to: &Path) {
    let done = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).status().expect("cp");
    assert!(done.success(), "cp {} {}", from.display(), to.display());
}

fn signal(which: &str, pid: u32) {
    let done = Command::new("kill").args([which, &pid.to_string()]).status();
    assert!(done.is_ok(), "kill {which} {pid}");
}

/// Neither gone nor a zombie.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
