//! A schema registry as its documents describe it (Confluent's API, version 1): it takes JSON Schemas, and is strict about how it
//! is asked.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As Confluent's does from 8.0 on, with a name that every registry has for a schema.
    WithGuid,
    /// As others do.
    WithNumber,
    /// That each schema is incompatible.
    Incompatible,
    /// Never.
    Hang,
    /// With more than anybody should read.
    Flood,
}

#[derive(Default)]
struct Kept {
    /// Schemas by their number, which is their place and one.
    schemas: Vec<Value>,
    /// Numbers by subject.
    subjects: BTreeMap<String, usize>,
}

struct Shared {
    manner: Mutex<Manner>,
    kept: Mutex<Kept>,
}

/// A running one.
pub struct Registry {
    shared: Arc<Shared>,
    url: String,
    serving: AbortHandle,
}

/// Type of what is asked and answered.
const SCHEMA_JSON: &str = "application/vnd.schemaregistry.v1+json";

impl Registry {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::start_on(listener, manner)
    }

    pub fn start_on(listener: TcpListener, manner: Manner) -> Self {
        let shared = Arc::new(Shared { manner: Mutex::new(manner), kept: Mutex::default() });
        let url = format!("http://{}/behind", listener.local_addr().expect("an address"));
        let router = Router::new()
            .route("/behind/subjects/{subject}/versions", post(register))
            .route("/behind/schemas/types", get(types))
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Self { shared, url, serving }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on nobody listens; what it keeps can still be looked at.
    pub fn leave(&self) {
        self.serving.abort();
    }

    /// Subjects that have a schema.
    pub fn subjects(&self) -> Vec<String> {
        self.shared.kept.lock().expect("what it keeps").subjects.keys().cloned().collect()
    }

    /// The schema that a record's header names; the test fails where it names none.
    pub fn named(&self, header: &[u8]) -> Value {
        let kept = self.shared.kept.lock().expect("what it keeps");
        let number = match header {
            [0, number @ ..] => u32::from_be_bytes(number.try_into().expect("four bytes")) as usize,
            [1, guid @ ..] => {
                let guid: [u8; 16] = guid.try_into().expect("16 bytes");
                (1..=kept.schemas.len()).find(|number| *self::guid(*number).as_bytes() == guid).expect("a known guid")
            }
            other => panic!("{other:?} is no name of a schema"),
        };
        kept.schemas[number - 1].clone()
    }
}

fn guid(number: usize) -> uuid::Uuid {
    uuid::Uuid::from_u128(0x8979_1762_2336_4186_9674_299b_90a8_0000 + number as u128)
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [("content-type", SCHEMA_JSON)], body.to_string()).into_response()
}

async fn types(State(shared): State<Arc<Shared>>) -> Response {
    if *shared.manner.lock().expect("a manner") == Manner::Hang {
        std::future::pending::<()>().await;
    }
    answer(StatusCode::OK, &json!(["AVRO", "JSON", "PROTOBUF"]))
}

async fn register(
    State(shared): State<Arc<Shared>>,
    Path(subject): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let is = |name: &str| headers.get(name).is_some_and(|value| value == SCHEMA_JSON);
    if !is("content-type") || !is("accept") {
        return answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, &json!({ "error_code": 415, "message": "HTTP 415" }));
    }
    let unprocessable =
        |message: &str| answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "error_code": 42201, "message": message }));
    let Ok(Value::Object(body)) = serde_json::from_slice(&body) else { return unprocessable("no JSON object") };
    if body.keys().collect::<Vec<_>>() != ["schema", "schemaType"] || body["schemaType"] != "JSON" {
        return unprocessable("not what registers a JSON Schema");
    }
    let Some(schema) = body["schema"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return unprocessable("the schema is not a text that holds JSON");
    };
    let manner = *shared.manner.lock().expect("a manner");
    match manner {
        Manner::Hang => std::future::pending().await,
        Manner::Flood => (StatusCode::OK, [("content-type", SCHEMA_JSON)], " ".repeat(1 << 20)).into_response(),
        Manner::Incompatible => {
            let message = "Schema being registered is incompatible with an earlier schema";
            answer(StatusCode::CONFLICT, &json!({ "error_code": 409, "message": message }))
        }
        Manner::WithGuid | Manner::WithNumber => {
            let mut kept = shared.kept.lock().expect("what it keeps");
            let known = kept.schemas.iter().position(|known| *known == schema);
            let number = known.unwrap_or_else(|| {
                kept.schemas.push(schema);
                kept.schemas.len() - 1
            }) + 1;
            kept.subjects.insert(subject, number);
            let mut body = json!({ "id": number });
            if manner == Manner::WithGuid {
                body["guid"] = json!(guid(number).to_string());
            }
            answer(StatusCode::OK, &body)
        }
    }
}
