//! What the simulated retailer sells.

use super::values::Cents;

/// A product.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// The retailer's id.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// The price of one.
    pub price: Cents,
    /// Days until it is sent.
    pub handling_days: (u32, u32),
}

impl Product {
    /// Its picture.
    pub fn image(&self) -> String {
        format!("https://img.example.com/{}.jpg", self.id)
    }
}

/// How soon most goods are sent.
const SOON: (u32, u32) = (1, 2);

static PRODUCTS: [Product; 8] = [
    Product { id: "B0D7KX91QZ", title: "USB-C cable, braided, 2 m", price: Cents(1149), handling_days: SOON },
    Product { id: "B0C4RM28TN", title: "Desk lamp, dimmable", price: Cents(3290), handling_days: SOON },
    Product { id: "B09VHP63LD", title: "Espresso cups, set of 4", price: Cents(2475), handling_days: SOON },
    Product { id: "B0BX5J7WKE", title: "Trail running socks, 3 pairs", price: Cents(1900), handling_days: SOON },
    Product { id: "B08QN2Z4YF", title: "Notebook, dotted, A5", price: Cents(899), handling_days: SOON },
    Product { id: "B0CTG81MSR", title: "Mechanical keyboard, 75 %", price: Cents(8950), handling_days: SOON },
    Product { id: "B07LW9D3VX", title: "Cast iron pan, 26 cm", price: Cents(4399), handling_days: SOON },
    Product { id: "B0DPA60HUC", title: "Bicycle bell, brass", price: Cents(1625), handling_days: SOON },
];

/// Found by a search and never bought: an offer must be deliverable within 10 days (`api-spec/commerce/products`).
static MADE_TO_ORDER: Product =
    Product { id: "B0AGEDOAK1", title: "Oak table, made to order", price: Cents(98_000), handling_days: (21, 28) };

/// Everything that can be bought.
pub fn products() -> &'static [Product] {
    &PRODUCTS
}

/// Everything that a search finds.
pub fn on_sale() -> impl Iterator<Item = &'static Product> {
    PRODUCTS.iter().chain([&MADE_TO_ORDER])
}

/// One product.
pub fn find_product(id: &str) -> Option<&'static Product> {
    on_sale().find(|product| product.id == id)
}
