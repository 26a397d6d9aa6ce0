//! The three steps of checkout: estimate, address, invoice (`api-spec/commerce/checkout`).
//!
//! An estimate holds 15 minutes in the provider's sample, an invoice about 30; an order is worth at most 2,500 USD.

use super::answer::{ObjectTime, Spelled, view};
use super::call::{Call, IdempotencyKey};
use super::{Decoded, Product, Rest, RestError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Who buys, in exactly one of the two documented ways (`api-reference/merchant-checkout/step-1--create-checkout-estimate-enhanced`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Customer {
    /// The merchant's own id of the customer.
    Id(String),
    /// A wallet.
    Wallet {
        /// Its address.
        address: String,
        /// Its network: `bsc`, `solana`, `base`, `ethereum` are printed.
        network: String,
    },
}

impl Customer {
    /// `request` with the members that name the customer.
    fn named_in(&self, mut request: Value) -> Value {
        match self {
            Self::Id(id) => request["customer_id"] = id.as_str().into(),
            Self::Wallet { address, network } => {
                request["wallet_address"] = address.as_str().into();
                request["wallet_network"] = network.as_str().into();
            }
        }
        request
    }
}

/// One line to be bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Item {
    /// The retailer's id.
    pub product_id: String,
    /// `amazon` is the one that is printed.
    pub retailer: String,
    /// How many pieces.
    pub quantity: u32,
    /// The title as it was found, if known; documented as a member of each item, as the price is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The price of one as it was found, in USD, if known; the provider's own price counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<serde_json::Number>,
}

/// Where the goods go (`api-reference/merchant-checkout/step-2--set-shipping-address`), under the provider's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the provider's members, under the provider's names")]
pub struct Address {
    pub first_name: String,
    pub last_name: String,
    pub street_address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_line2: Option<String>,
    pub city: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    pub zip_code: String,
    pub country: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

view! {
    /// A priced cart. Amounts are in USD, as spelled.
    #[serde(rename_all = "camelCase")]
    pub struct Estimate {
        /// Its id, for the next two steps.
        pub estimate_id: Option<String>,
        /// What can be bought; only this enters the order.
        pub valid_items: Vec<ValidItem>,
        /// What cannot, with the reason.
        pub invalid_items: Vec<InvalidItem>,
        /// The sums.
        pub pricing: Pricing,
        /// When it was made.
        pub created_at: Option<ObjectTime>,
        /// Until when it holds.
        pub expires_at: Option<ObjectTime>,
    }

    /// A line that can be bought.
    #[serde(rename_all = "camelCase")]
    pub struct ValidItem {
        pub product_id: Option<String>,
        pub retailer: Option<String>,
        pub title: Option<String>,
        pub quantity: Option<u64>,
        pub price: Option<Spelled>,
        pub total_price: Option<Spelled>,
    }

    /// A line that cannot be bought.
    #[serde(rename_all = "camelCase")]
    pub struct InvalidItem {
        pub product_id: Option<String>,
        pub retailer: Option<String>,
        /// Why not.
        pub error: Option<String>,
    }

    /// The sums of an estimate.
    pub struct Pricing {
        pub subtotal: Option<Spelled>,
        pub shipping: Option<Spelled>,
        pub tax: Option<Spelled>,
        pub fees: Fees,
        pub total: Option<Spelled>,
    }

    /// The provider's fees in an estimate.
    pub struct Fees {
        /// All of them together.
        pub total: Option<Spelled>,
    }

    /// What the provider makes of an address.
    #[serde(rename_all = "camelCase")]
    pub struct AddressAnswer {
        /// Its id, for the next step.
        pub address_id: Option<String>,
        /// Whether the address exists.
        pub validated: Option<bool>,
        /// The address as the carrier writes it.
        pub standardized: Option<serde_json::Map<String, Value>>,
        /// How the goods can be sent.
        pub shipping_options: Vec<ShippingOption>,
    }

    /// One way to send the goods.
    #[serde(rename_all = "camelCase")]
    pub struct ShippingOption {
        pub id: Option<String>,
        pub name: Option<String>,
        pub price: Option<Spelled>,
        /// A text: `5-7 business days`.
        pub estimated_days: Option<String>,
    }

    /// The order that checkout made, and where it is paid.
    #[serde(rename_all = "camelCase")]
    pub struct InvoiceAnswer {
        /// The order.
        pub order_id: Option<String>,
        /// Its invoice.
        pub invoice_id: Option<String>,
        /// The page where the customer pays.
        pub invoice_url: Option<String>,
        /// What is to be paid, in USD.
        pub amount: Option<Spelled>,
        /// `unpaid`.
        pub status: Option<String>,
        /// Until when it can be paid.
        pub expires_at: Option<ObjectTime>,
    }
}

/// Products of a search among which one with the id is looked for.
const NAMESAKES_MAX: u32 = 10;

impl Item {
    /// With the title and the price of the product where it has none. A price that is no number stays unknown.
    fn completed(&mut self, product: Option<&Product>) {
        let Some(product) = product else { return };
        let price = || product.price.as_ref().and_then(|price| price.0.parse().ok());
        self.title = self.title.take().or_else(|| product.title.clone());
        self.price = self.price.take().or_else(price);
    }

    /// Whether every documented member is known.
    pub const fn is_whole(&self) -> bool {
        self.title.is_some() && self.price.is_some()
    }
}

const CHECKOUT: [&str; 4] = ["api", "commerce", "merchant", "checkout"];

impl Rest {
    /// The item with the title and the price that the provider shows, where it has none: those of the product's page, else
    /// of a search for its id, since the members of a page are not documented. What neither shows stays unknown.
    ///
    /// # Errors
    ///
    /// Those of a call. That there is no such product is none: the estimate reports it.
    pub async fn completed(&self, mut item: Item) -> Result<Item, RestError> {
        if !item.is_whole() {
            match self.product(&item.product_id).await {
                Ok(product) => item.completed(Some(&product.view)),
                // Nor does a page of another shape show anything.
                Err(RestError::Status { status: 400 | 404, .. } | RestError::Malformed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if !item.is_whole() {
            let found = self.search(&item.product_id, Some(NAMESAKES_MAX)).await?.view;
            let same = found.iter().find(|product| product.product_id.as_ref() == Some(&item.product_id));
            item.completed(same);
        }
        Ok(item)
    }

    /// Step 1, prices a cart: `POST …/checkout/estimate`. What cannot be bought is listed, and left out of the order.
    pub async fn estimate(&self, customer: &Customer, items: &[Item]) -> Result<Decoded<Estimate>, RestError> {
        let request = customer.named_in(json!({ "items": items }));
        Decoded::object(&self.call(Call::post(&step("estimate"), request)).await?)
    }

    /// Step 2, where it goes: `POST …/checkout/address`.
    pub async fn address(
        &self,
        customer: &Customer,
        estimate_id: &str,
        address: &Address,
    ) -> Result<Decoded<AddressAnswer>, RestError> {
        let request = customer.named_in(json!({ "estimateId": estimate_id, "address": address }));
        Decoded::object(&self.call(Call::post(&step("address"), request)).await?)
    }

    /// Step 3, makes the order and its invoice: `POST …/checkout/invoice`, once for `key`.
    ///
    /// `refund_destination` is a BSC address to which a refund may go; without one an order that was not paid from
    /// BSC cannot be refunded.
    pub async fn invoice(
        &self,
        customer: &Customer,
        estimate_id: &str,
        address_id: &str,
        refund_destination: Option<&str>,
        key: &IdempotencyKey,
    ) -> Result<Decoded<InvoiceAnswer>, RestError> {
        let mut request = customer.named_in(json!({ "estimateId": estimate_id, "addressId": address_id }));
        if let Some(address) = refund_destination {
            request["refundDestinationWalletAddressBsc"] = address.into();
        }
        Decoded::object(&self.call(Call::post(&step("invoice"), request).keyed(key)).await?)
    }
}

const fn step(name: &str) -> [&str; 5] {
    let [api, commerce, merchant, checkout] = CHECKOUT;
    [api, commerce, merchant, checkout, name]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/fixtures/rest/{name}.json", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn text(value: Option<&Spelled>) -> &str {
        value.map_or("", |value| value.0.as_str())
    }

    #[test]
    fn the_requests_are_the_examples() {
        let json = |name: &str| serde_json::from_slice::<Value>(&fixture(name)).unwrap();
        let customer = Customer::Id("cust_8842".to_owned());
        let wanted = json("checkout-estimate.request");
        let items: Vec<Item> = serde_json::from_value(wanted["items"].clone()).unwrap();
        assert_eq!(customer.named_in(json!({ "items": items })), wanted);
        let wanted = json("checkout-address.request");
        let address: Address = serde_json::from_value(wanted["address"].clone()).unwrap();
        let estimate_id = &wanted["estimateId"];
        assert_eq!(customer.named_in(json!({ "estimateId": estimate_id, "address": address })), wanted);
        let wallet = Customer::Wallet { address: "0x1".to_owned(), network: "bsc".to_owned() };
        assert_eq!(wallet.named_in(json!({})), json!({ "wallet_address": "0x1", "wallet_network": "bsc" }));
    }

    #[test]
    fn an_item_takes_from_a_product_what_is_missing() {
        let product: Product = serde_json::from_str(r#"{"title":"Cable","price":"11.490"}"#).unwrap();
        let item = |title: Option<&str>, price: Option<&str>| Item {
            product_id: "p".to_owned(),
            retailer: "amazon".to_owned(),
            quantity: 1,
            title: title.map(str::to_owned),
            price: price.map(|price| price.parse().unwrap()),
        };
        let check = |mut had: Item, product: Option<&Product>, wanted: &Item| {
            had.completed(product);
            assert_eq!(&had, wanted);
        };
        check(item(None, None), Some(&product), &item(Some("Cable"), Some("11.490")));
        check(item(Some("Mine"), None), Some(&product), &item(Some("Mine"), Some("11.490")));
        check(item(None, Some("9")), Some(&product), &item(Some("Cable"), Some("9")));
        check(item(None, None), None, &item(None, None));
        let dear: Product = serde_json::from_str(r#"{"price":"11.49 USD"}"#).unwrap();
        check(item(None, None), Some(&dear), &item(None, None));
    }

    #[test]
    fn the_answers_of_the_examples_are_read() {
        let estimate: Decoded<Estimate> = Decoded::object(&fixture("checkout-estimate.response")).unwrap();
        let view = estimate.view;
        assert_eq!((view.valid_items.len(), view.invalid_items[0].error.as_deref()), (1, Some("no eligible offer")));
        assert_eq!(text(view.valid_items[0].total_price.as_ref()), "22.98");
        assert_eq!((text(view.pricing.total.as_ref()), text(view.pricing.fees.total.as_ref())), ("28.97", "3"));
        let lives = view.expires_at.unwrap().0.duration_since(view.created_at.unwrap().0);
        assert_eq!(lives.as_secs(), 900);

        let address: Decoded<AddressAnswer> = Decoded::object(&fixture("checkout-address.response")).unwrap();
        assert_eq!(address.view.validated, Some(true));
        assert_eq!(address.view.standardized.unwrap()["city"], "Miami");
        assert_eq!(address.view.shipping_options[0].estimated_days.as_deref(), Some("5-7 business days"));

        let invoice: Decoded<InvoiceAnswer> = Decoded::object(&fixture("checkout-invoice.response")).unwrap();
        assert_eq!((text(invoice.view.amount.as_ref()), invoice.view.status.as_deref()), ("28.97", Some("unpaid")));
        assert!(invoice.view.invoice_url.unwrap().starts_with("https://pay.example.com/"));
        assert!(invoice.raw.get().contains("payment_session_headers"), "what no view names is still there");
    }
}
