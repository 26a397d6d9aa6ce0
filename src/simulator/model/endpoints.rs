//! Webhook endpoints as the provider keeps them (`api-spec/webhooks`): where to, which types, which secrets.

use super::Model;
use super::filter::Types;
use crate::provider::EventId;
use std::sync::Arc;

/// Most endpoints; a merchant has a handful.
const ENDPOINTS_MAX: usize = 16;

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `we_1`, `we_2`, …
    pub id: String,
    /// Where the events are posted.
    pub url: String,
    /// Which.
    pub enabled_events: Types,
    /// Signs every delivery.
    pub secret: String,
    /// Signs alongside it while the secret is being rotated.
    pub previous_secret: Option<String>,
}

impl Endpoint {
    /// Whether events of `kind` go there.
    pub fn wants(&self, kind: &str) -> bool {
        self.enabled_events.contains(kind)
    }
}

impl Model {
    /// Adds an endpoint and answers its id; `None` at the limit of 16.
    pub fn add_endpoint(&mut self, url: &str, enabled_events: Types, secret: &str) -> Option<String> {
        if self.endpoints.len() >= ENDPOINTS_MAX {
            return None;
        }
        let id = format!("we_{}", self.endpoints.len() + 1);
        self.endpoints.push(Endpoint {
            id: id.clone(),
            url: url.to_owned(),
            enabled_events,
            secret: secret.to_owned(),
            previous_secret: None,
        });
        Some(id)
    }

    /// All endpoints.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// One endpoint, by its id.
    pub fn endpoint(&self, id: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.id == id)
    }

    /// From now on every delivery is signed with `secret` and, until [`Model::finish_rotation`], with the one
    /// before it as well.
    pub fn rotate_secrets(&mut self, secret: &str) {
        for endpoint in &mut self.endpoints {
            endpoint.previous_secret = Some(std::mem::replace(&mut endpoint.secret, secret.to_owned()));
        }
    }

    /// The previous secret is given up.
    pub fn finish_rotation(&mut self) {
        for endpoint in &mut self.endpoints {
            endpoint.previous_secret = None;
        }
    }

    /// A `test.ping` as the dashboard sends it: it has an id, but is on no other channel and not in the log.
    pub fn ping(&mut self, now_ms: i64) -> Arc<super::Event> {
        let id: EventId = self.log.next_id(now_ms);
        let created = now_ms.div_euclid(1000);
        let body = serde_json::json!({
            "id": id.to_string(), "object": "event", "api_version": "2025-12-16", "created": created,
            "type": "test.ping", "livemode": self.settings.mainnet, "pending_webhooks": 0,
            "data": { "object": { "object": "ping", "status": "ok" } },
        });
        Arc::new(super::Event {
            id: id.to_string(),
            position: Some(id),
            kind: "test.ping".into(),
            created,
            scope: super::Scope::default(),
            unfiltered: false,
            bytes: body.to_string().into(),
        })
    }
}
