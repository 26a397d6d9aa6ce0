//! What is there: availability, products and their offers; and tokens for the stream.

use super::answer::{Spelled, lenient, unwrapped, view};
use super::call::Call;
use super::{Decoded, Rest, RestError};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Life of a `ws_token` in seconds: it only has to last from here to the upgrade. The provider's sample uses it.
const WS_TOKEN_TTL_SECONDS: u32 = 60;

/// Credentials for one WebSocket connection (`api-spec/realtime/ws-token`).
#[derive(Clone, Debug)]
pub struct WsToken {
    /// The token, for the query of the stream's address.
    pub token: SecretString,
    /// The stream's address as the answer gives it; the caller decides whether to trust it.
    pub ws_url: Option<String>,
}

/// What the provider reports about itself (`api-spec/commerce/status`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommerceStatus {
    /// `available`, else an undocumented text.
    pub status: String,
    /// Escrow balance, as the provider writes it.
    #[serde(default)]
    pub escrow_balance: Option<Box<RawValue>>,
    /// The balance below which the service is off, as the provider writes it.
    #[serde(default)]
    pub minimum_required: Option<Box<RawValue>>,
    /// Which features are on: `search`, `cart`, `checkout`, `orders`.
    #[serde(default, deserialize_with = "lenient")]
    pub features: BTreeMap<String, bool>,
}

view! {
    /// A product that was found (`api-spec/commerce/search`).
    #[serde(rename_all = "camelCase")]
    pub struct Product {
        /// The retailer's id.
        pub product_id: Option<String>,
        /// Its title.
        pub title: Option<String>,
        /// The price of one, in USD.
        pub price: Option<Spelled>,
        /// Address of a picture.
        pub image: Option<String>,
    }

    /// An offer for a product (`api-spec/commerce/products`); amounts in USD.
    #[serde(rename_all = "camelCase")]
    pub struct Offer {
        /// Its id.
        pub offer_id: Option<String>,
        /// Who sells.
        pub seller_name: Option<String>,
        /// The price of one.
        pub price: Option<Spelled>,
        /// What its way costs.
        pub shipping: Option<Spelled>,
        /// Both.
        pub total_cost: Option<Spelled>,
        /// `New` and so on.
        pub condition: Option<String>,
        /// Whether it can be had.
        pub available: Option<bool>,
    }
}

impl Rest {
    /// A fresh token for one WebSocket connection: `POST /api/v1/ws/token`.
    pub async fn mint_ws_token(&self) -> Result<WsToken, RestError> {
        #[derive(Deserialize)]
        struct Minted {
            token: String,
            #[serde(default)]
            ws_url: Option<String>,
        }
        let request = serde_json::json!({"scope": "commerce", "ttl_seconds": WS_TOKEN_TTL_SECONDS});
        let body = self.call(Call::post(&["api", "v1", "ws", "token"], request)).await?;
        let Minted { token, ws_url } = Decoded::object(&body)?.view;
        Ok(WsToken { token: token.into(), ws_url })
    }

    /// Whether commerce is available: `GET /api/commerce/status`.
    pub async fn commerce_status(&self) -> Result<Decoded<CommerceStatus>, RestError> {
        Decoded::object(&self.call(Call::get(&["api", "commerce", "status"])).await?)
    }

    /// Products by words: `GET /api/commerce/search` (`api-spec/commerce/search`); the provider's number of them
    /// without a `limit`.
    pub async fn search(&self, words: &str, limit: Option<u32>) -> Result<Decoded<Vec<Product>>, RestError> {
        let call = Call::get(&["api", "commerce", "search"]).with("q", Some(words)).with("limit", limit);
        listed(&self.call(call).await?, "products")
    }

    /// A product: `GET /api/commerce/products/{productId}` (`api-spec/commerce/products`).
    pub async fn product(&self, product_id: &str) -> Result<Decoded<Product>, RestError> {
        Decoded::object(&self.call(Call::get(&["api", "commerce", "products", product_id])).await?)
    }

    /// Its offers, for a zip code if one is given: `GET /api/commerce/products/{productId}/offers` (the same page).
    pub async fn offers(&self, product_id: &str, zip: Option<&str>) -> Result<Decoded<Vec<Offer>>, RestError> {
        let call = Call::get(&["api", "commerce", "products", product_id, "offers"]).with("zipCode", zip);
        listed(&self.call(call).await?, "offers")
    }
}

/// A list that may be in a member of the answer's object, or be the answer.
fn listed<T: for<'a> Deserialize<'a>>(body: &[u8], member: &str) -> Result<Decoded<Vec<T>>, RestError> {
    let raw = unwrapped(body)?;
    if raw.get().starts_with('[') {
        return Decoded::of(raw, '[');
    }
    let object = Decoded::<BTreeMap<String, Box<RawValue>>>::of(raw, '{')?;
    let list = object.view.get(member).ok_or_else(|| RestError::Malformed(format!("no member {member}")))?;
    Ok(Decoded { raw: object.raw, view: Decoded::of(list, '[')?.view })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    #[test]
    fn the_examples_are_read() {
        let body = include_bytes!("../../../tests/fixtures/rest/commerce-status.response.json");
        let status = Decoded::<CommerceStatus>::object(body).unwrap().view;
        assert_eq!((status.status.as_str(), status.features.len()), ("available", 4));
        let body = include_bytes!("../../../tests/fixtures/rest/search.response.json");
        let found: Decoded<Vec<Product>> = listed(body, "products").unwrap();
        assert_eq!(found.view.len(), 1);
        assert_eq!(found.view[0].price.as_ref().unwrap().to_string(), "11.49");
        assert!(found.raw.get().contains("\"products\""), "the provider's whole object");
    }

    #[test]
    fn a_list_may_be_the_answer_and_no_list_is_an_error() {
        let found: Decoded<Vec<Product>> = listed(br#"{"success":true,"data":[{"productId":5}]}"#, "offers").unwrap();
        assert_eq!((found.view.len(), found.view[0].product_id.as_deref()), (1, None));
        for body in ["{}", r#"{"data":7}"#, r#"{"data":{"offers":{}}}"#] {
            assert!(matches!(listed::<Offer>(body.as_bytes(), "offers"), Err(RestError::Malformed(_))), "{body}");
        }
    }
}
