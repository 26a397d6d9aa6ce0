//! An identity provider that gives tokens for client credentials (RFC 6749, section 4.4), and a broker that takes them.
//!
//! The tokens are JWTs without a signature, which Kafka's own validator for tests takes (`OAuthBearerUnsecuredValidator`):
//! what signs them is between provider and broker, and no relay looks.

use super::kafka::Broker;
use super::ports::free_address;
use super::relay::Rig;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use pepay_relay::clock::now_ms;
use pepay_relay::config::Config;
use serde_json::json;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

/// The client that it knows.
pub const CLIENT: &str = "relay-client";

/// What its tokens call that client.
pub const SUBJECT: &str = "relay-subject";

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// With a token, where the client's secret is right.
    Token,
    /// Never.
    Hang,
    /// A byte at a time, without an end.
    Drip,
    /// With a page.
    Page,
    /// With JSON that holds no token.
    NoToken,
    /// With a token of the past.
    Expired,
    /// That it is too busy.
    Busy,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whether the client's id and secret were right.
    pub known: bool,
    /// The form.
    pub form: String,
}

struct Shared {
    manner: Mutex<Manner>,
    secret: Mutex<String>,
    lives: Duration,
    asked: Mutex<Vec<Asked>>,
    given: Mutex<Vec<String>>,
}

/// A running one.
pub struct Identity {
    shared: Arc<Shared>,
    url: String,
}

impl Identity {
    /// Its tokens live for `lives`.
    pub async fn start(secret: &str, lives: Duration) -> Self {
        let shared = Arc::new(Shared {
            manner: Mutex::new(Manner::Token),
            secret: Mutex::new(secret.to_owned()),
            lives,
            asked: Mutex::default(),
            given: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/token", listener.local_addr().expect("an address"));
        let router = Router::new().route("/token", post(answer)).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { shared, url }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().expect("a manner") = manner;
    }

    /// Only this secret is right from now on.
    pub fn rotate(&self, secret: &str) {
        secret.clone_into(&mut self.shared.secret.lock().expect("a secret"));
    }

    /// Every question so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("questions").clone()
    }

    /// Every token so far.
    pub fn given(&self) -> Vec<String> {
        self.shared.given.lock().expect("tokens").clone()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, form: Bytes) -> Response {
    let credentials = format!("{CLIENT}:{}", shared.secret.lock().expect("a secret"));
    let expected = format!("Basic {}", BASE64_STANDARD.encode(credentials));
    let known = headers.get("authorization").is_some_and(|value| value.as_bytes() == expected.as_bytes());
    let form = String::from_utf8_lossy(&form).into_owned();
    shared.asked.lock().expect("questions").push(Asked { known, form });
    let manner = *shared.manner.lock().expect("a manner");
    match manner {
        Manner::Hang => std::future::pending().await,
        Manner::Drip => {
            let bytes = futures::stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
            });
            ([("content-type", "application/json")], Body::from_stream(bytes)).into_response()
        }
        Manner::Page => ([("content-type", "text/html")], "<p>Sign in</p>").into_response(),
        Manner::NoToken => json_answer(StatusCode::OK, &json!({ "token_type": "bearer" })),
        Manner::Busy => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Manner::Token | Manner::Expired if !known => {
            let refusal = json!({ "error": "invalid_client", "error_description": "who are you" });
            json_answer(StatusCode::UNAUTHORIZED, &refusal)
        }
        Manner::Token | Manner::Expired => {
            let now = now_ms() / 1000;
            let lives = i64::try_from(shared.lives.as_secs()).expect("short");
            let ends = if manner == Manner::Expired { now - 10 } else { now + lives };
            let token = jwt(now, ends);
            shared.given.lock().expect("tokens").push(token.clone());
            json_answer(
                StatusCode::OK,
                &json!({ "access_token": token, "token_type": "Bearer", "expires_in": shared.lives.as_secs() }),
            )
        }
    }
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}

/// Without a signature. `jti` makes each another one.
fn jwt(issued: i64, ends: i64) -> String {
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "sub": SUBJECT, "iat": issued, "exp": ends, "jti": uuid::Uuid::new_v4().to_string() });
    format!("{}.{}.", part(json!({ "alg": "none" })), part(claims))
}

/// A broker with a listener for tokens alongside the plain one. A connection lasts at most this long without a new one
/// (KIP-368).
pub struct TokenBroker {
    pub broker: Broker,
    port: u16,
}

impl TokenBroker {
    pub fn start(session: Duration) -> Self {
        Self::launch(session, "")
    }

    /// One that takes no token of `Identity`, since none has this scope.
    pub fn start_demanding(scope: &str) -> Self {
        Self::launch(Duration::from_secs(60), &format!(" unsecuredValidatorRequiredScope=\"{scope}\""))
    }

    fn launch(session: Duration, demands: &str) -> Self {
        let port = free_address().port();
        let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
        let properties = format!(
            "listeners=PLAINTEXT://127.0.0.1:{{plain}},CONTROLLER://127.0.0.1:{{controller}},TOKENS://127.0.0.1:{port}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TOKENS:SASL_PLAINTEXT\n\
             inter.broker.listener.name=PLAINTEXT\n\
             sasl.enabled.mechanisms=OAUTHBEARER\n\
             listener.name.tokens.oauthbearer.sasl.jaas.config={module} required unsecuredLoginStringClaim_sub=\"broker\"{demands};\n\
             listener.name.tokens.oauthbearer.connections.max.reauth.ms={}\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS\n",
            session.as_millis()
        );
        Self { broker: Broker::start_with(&properties), port }
    }

    /// A rig that comes with tokens of `identity`, and the same one at the plain listener for the tests' own look at
    /// what is committed.
    pub async fn rig(&self, identity: &Identity, secret: &str, test: &str) -> (Rig, Rig) {
        let open = Rig::new(self.broker.bootstrap(), test).await;
        let mut config: Config = open.config.clone();
        config.kafka.bootstrap_servers = format!("127.0.0.1:{}", self.port);
        config.kafka.sasl_mechanism = Some("OAUTHBEARER".to_owned());
        config.kafka.oauth_token_url = Some(identity.url().to_owned());
        config.kafka.oauth_client_id = Some(CLIENT.to_owned());
        let (simulator, mut secrets, tuning) = (Arc::clone(&open.simulator), open.secrets.clone(), open.tuning);
        secrets.kafka_oauth_secret = Some(secret.into());
        (open, Rig { simulator, config, secrets, tuning })
    }
}
