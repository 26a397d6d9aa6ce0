//! Which of the provider's two worlds.

/// Which of the provider's two worlds a relay serves; a commerce key belongs to exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Test networks; no real retailer orders.
    Devnet,
    /// Real goods and real money.
    Mainnet,
}

impl Environment {
    /// As the provider spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Devnet => "devnet",
            Self::Mainnet => "mainnet",
        }
    }
}
