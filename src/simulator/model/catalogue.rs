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
}

impl Product {
    /// Its picture.
    pub fn image(&self) -> String {
        format!("https://img.example.com/{}.jpg", self.id)
    }
}

const PRODUCTS: [Product; 8] = [
    Product { id: "B0D7KX91QZ", title: "USB-C cable, braided, 2 m", price: Cents(1149) },
    Product { id: "B0C4RM28TN", title: "Desk lamp, dimmable", price: Cents(3290) },
    Product { id: "B09VHP63LD", title: "Espresso cups, set of 4", price: Cents(2475) },
    Product { id: "B0BX5J7WKE", title: "Trail running socks, 3 pairs", price: Cents(1900) },
    Product { id: "B08QN2Z4YF", title: "Notebook, dotted, A5", price: Cents(899) },
    Product { id: "B0CTG81MSR", title: "Mechanical keyboard, 75 %", price: Cents(8950) },
    Product { id: "B07LW9D3VX", title: "Cast iron pan, 26 cm", price: Cents(4399) },
    Product { id: "B0DPA60HUC", title: "Bicycle bell, brass", price: Cents(1625) },
];

/// Everything on sale.
pub const fn products() -> &'static [Product] {
    &PRODUCTS
}

/// One product.
pub fn find_product(id: &str) -> Option<&'static Product> {
    PRODUCTS.iter().find(|product| product.id == id)
}
