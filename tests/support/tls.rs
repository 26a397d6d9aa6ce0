//! A broker with listeners that speak TLS, each with a certificate of its own, and the certificates of its clients.
//!
//! The files are `tests/fixtures/tls/kafka`, of one authority.

use super::kafka::Broker;
use super::ports::free_address;
use super::relay::Rig;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whom the broker takes a client with `client.cert.pem` or `renewed.cert.pem` for (`X500Principal.getName`).
pub const CLIENT: &str = "O=Shop,CN=relay";

/// What the key in `client.encrypted.key.pem` is encrypted with.
pub const KEY_PASSWORD: &str = "key-password";

/// Name of a listener, and the file with its key and certificate.
const LISTENERS: [(&str, &str); 4] =
    [("good", "broker.pem"), ("mutual", "broker.pem"), ("expired", "expired.pem"), ("elsewhere", "elsewhere.pem")];

/// A broker with these listeners alongside the plain one: `good`, `mutual` (which wants a client's certificate), `expired` and
/// `elsewhere` (whose certificate is for another host). Who comes without a certificate may do everything.
pub struct TlsBroker {
    pub broker: Broker,
    ports: [u16; LISTENERS.len()],
}

impl TlsBroker {
    pub fn start() -> Self {
        let ports = LISTENERS.map(|_| free_address().port());
        let names = || LISTENERS.iter().map(|(name, _)| name.to_uppercase()).zip(ports);
        let listeners: String = names().map(|(name, port)| format!(",{name}://127.0.0.1:{port}")).collect();
        let protocols: String = names().map(|(name, _)| format!(",{name}:SSL")).collect();
        let mut properties = format!(
            "listeners=PLAINTEXT://127.0.0.1:{{plain}},CONTROLLER://127.0.0.1:{{controller}}{listeners}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}\n\
             inter.broker.listener.name=PLAINTEXT\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS\n\
             listener.name.mutual.ssl.client.auth=required\n\
             listener.name.mutual.ssl.truststore.type=PEM\n\
             listener.name.mutual.ssl.truststore.location={}\n",
            fixture("ca.cert.pem").display()
        );
        for (name, file) in LISTENERS {
            let (listener, file) = (format!("listener.name.{name}.ssl.keystore"), fixture(file));
            properties += &format!("{listener}.type=PEM\n{listener}.location={}\n", file.display());
        }
        Self { broker: Broker::start_with(&properties), ports }
    }

    /// Address of one of its listeners.
    pub fn bootstrap(&self, name: &str) -> String {
        let place = LISTENERS.iter().position(|(listener, _)| *listener == name).expect("a listener");
        format!("127.0.0.1:{}", self.ports[place])
    }

    /// A rig at one of its listeners, which trusts the authority, and the same one at the plain listener for the tests' own
    /// look at what is committed.
    pub async fn rig(&self, listener: &str, test: &str) -> (Rig, Rig) {
        let open = Rig::new(self.broker.bootstrap(), test).await;
        let mut config = open.config.clone();
        config.kafka.bootstrap_servers = self.bootstrap(listener);
        config.kafka.tls = true;
        config.kafka.ca_file = Some(fixture("ca.cert.pem"));
        let (simulator, secrets, tuning) = (Arc::clone(&open.simulator), open.secrets.clone(), open.tuning);
        (open, Rig { simulator, config, secrets, tuning })
    }
}

/// A file of `tests/fixtures/tls/kafka`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls/kafka").join(name)
}
