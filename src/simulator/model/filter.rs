//! Which events a socket, a webhook endpoint or a query wants.

/// The types that may be asked for (`api-spec/webhooks`); a name outside the list is refused.
const ALLOWED: [&str; 7] = [
    "invoice.created",
    "invoice.updated",
    "invoice_payment.created",
    "invoice_payment.updated",
    "commerce.order.created",
    "commerce.order.updated",
    "test.ping",
];

/// A list of types, each exact or a prefix with `.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Types(Vec<String>);

impl Types {
    /// From comma-separated names.
    ///
    /// # Errors
    /// With the first name that no allowed type fits.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        match names.iter().find(|name| !ALLOWED.iter().any(|allowed| fits(name, allowed))) {
            Some(unknown) => Err(unknown.clone()),
            None => Ok(Self(names)),
        }
    }

    /// What the commerce stream carries unasked: orders, and the linked invoices and payments.
    pub fn commerce() -> Self {
        Self(["commerce.order.*", "invoice.*", "invoice_payment.*"].map(String::from).to_vec())
    }

    /// Whether `kind` is wanted.
    pub fn contains(&self, kind: &str) -> bool {
        self.0.iter().any(|name| fits(name, kind))
    }

    /// The names as they were given.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// `commerce.order.*` fits `commerce.order.updated`; a bare `*` fits nothing, since the list has no such name.
fn fits(name: &str, kind: &str) -> bool {
    match name.strip_suffix(".*") {
        Some(prefix) => kind.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')),
        None => name == kind,
    }
}

/// Objects that an event is about, and, with the same members, the filter on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the provider's parameters, under the provider's names")]
pub struct Scope {
    pub order_id: Option<String>,
    pub invoice_id: Option<String>,
    pub customer_id: Option<String>,
    pub wallet_address: Option<String>,
    pub wallet_network: Option<String>,
}

impl Scope {
    /// Whether every member that `filter` names is the same here; addresses regardless of case when they are EVM's.
    pub fn matches(&self, filter: &Self) -> bool {
        let same = |own: &Option<String>, wanted: &Option<String>| wanted.is_none() || own == wanted;
        let address = match (&self.wallet_address, &filter.wallet_address) {
            (_, None) => true,
            (Some(own), Some(wanted)) if wanted.starts_with("0x") => own.eq_ignore_ascii_case(wanted),
            (own, wanted) => own == wanted,
        };
        address
            && same(&self.order_id, &filter.order_id)
            && same(&self.invoice_id, &filter.invoice_id)
            && same(&self.customer_id, &filter.customer_id)
            && same(&self.wallet_network, &filter.wallet_network)
    }
}

/// What a socket wants to see.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Events of these types …
    pub types: Types,
    /// … that are about this.
    pub scope: Scope,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;

    #[test]
    fn wildcards_cover_whole_words_only() {
        let types = Types::parse("invoice.*, commerce.order.created").unwrap();
        for (kind, wanted) in [
            ("invoice.updated", true),
            ("invoice_payment.updated", false),
            ("commerce.order.created", true),
            ("commerce.order.updated", false),
        ] {
            assert_eq!(types.contains(kind), wanted, "{kind}");
        }
        assert!(Types::parse("commerce.*").is_ok());
        for unknown in ["*", "", "invoice.paid", "invoice*", "payment_quote.updated"] {
            assert_eq!(Types::parse(unknown), Err(unknown.to_owned()));
        }
    }

    #[test]
    fn scope_members_combine_with_and() {
        let own = Scope {
            order_id: Some("o".into()),
            wallet_address: Some("0xAb".into()),
            wallet_network: Some("bsc".into()),
            ..Scope::default()
        };
        assert!(own.matches(&Scope::default()));
        assert!(own.matches(&Scope { wallet_address: Some("0xaB".into()), ..own.clone() }));
        assert!(!own.matches(&Scope { wallet_network: Some("base".into()), ..own.clone() }));
        assert!(!own.matches(&Scope { customer_id: Some("c".into()), ..Scope::default() }));
    }
}
