//! One address for several merchants: its key or token shows whose request it is.

use super::api;
use super::hub::Hub;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse;
use std::sync::{Arc, Mutex, PoisonError};
use tower_service::Service;

/// The merchants behind one address, each with a world of its own. A request that none of them knows is the first one's.
#[derive(Clone)]
pub(super) struct Door {
    merchants: Arc<Mutex<Vec<Merchant>>>,
}

#[derive(Clone)]
struct Merchant {
    hub: Arc<Hub>,
    router: Router,
}

impl Door {
    pub(super) fn new(hub: &Arc<Hub>) -> Self {
        let door = Self { merchants: Arc::default() };
        door.admit(hub);
        door
    }

    /// Another merchant's requests are his from now on, until he stops.
    pub(super) fn admit(&self, hub: &Arc<Hub>) {
        let merchant = Merchant { hub: Arc::clone(hub), router: api::router(Arc::clone(hub)) };
        let mut merchants = self.merchants.lock().unwrap_or_else(PoisonError::into_inner);
        merchants.retain(|merchant| !merchant.hub.stop.is_cancelled());
        merchants.push(merchant);
    }

    /// Serves each request as the merchant whose it is.
    pub(super) fn router(&self) -> Router {
        let door = self.clone();
        Router::new().fallback(move |request: Request| {
            let router = door.whose(&request);
            async move {
                match router {
                    Some(mut router) => router.call(request).await.into_response(),
                    None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                }
            }
        })
    }

    fn whose(&self, request: &Request) -> Option<Router> {
        let merchants = self.merchants.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = ["x-commerce-api-key", "x-api-key"].map(|name| request.headers().get(name));
        let key = keys.into_iter().flatten().next().map(HeaderValue::as_bytes);
        let query = request.uri().query().unwrap_or_default();
        let token = query.split('&').find_map(|pair| pair.strip_prefix("token="));
        let knows = |merchant: &&Merchant| {
            if merchant.hub.stop.is_cancelled() {
                return false;
            }
            let world = merchant.hub.world();
            key.is_some_and(|key| world.api_keys.iter().any(|taken| taken.as_bytes() == key))
                || token.is_some_and(|token| world.tokens.contains_key(token))
        };
        merchants.iter().find(knows).or(merchants.first()).map(|merchant| merchant.router.clone())
    }
}
