//! The tables of which of our members comes from where. Reading, writing and the JSON Schemas follow them.

use std::borrow::Cow;

/// The members of one object of ours, and an index of the names that the provider has for them.
#[derive(Debug)]
pub(super) struct Table {
    /// In the order in which they are written.
    pub(super) members: &'static [Member],
    /// By the hash of a spelling: the sources that have it, or the nearest free place behind.
    index: [Option<Place>; PLACES],
}

/// Places of an index: at least two for each spelling of the largest table.
const PLACES: usize = 128;

/// A source of a table.
#[derive(Clone, Copy, Debug)]
struct Place {
    member: u8,
    source: u8,
    /// Counted through the table.
    number: u8,
}

/// One member of ours.
#[derive(Debug)]
pub(super) struct Member {
    /// Our name, in snake_case.
    pub(super) name: &'static str,
    /// What it means, for the schema.
    pub(super) about: &'static str,
    /// Where the provider puts it; earlier sources win over later ones.
    pub(super) sources: &'static [Source],
    /// Not written in its place: it only serves the envelope, or repeats what the event's type means already.
    pub(super) hidden: bool,
}

/// A name that the provider uses for a member, and what is under it.
#[derive(Debug)]
pub(super) struct Source {
    /// In camelCase; the snake_case spelling follows from it and loses against it.
    pub(super) camel: &'static str,
    /// What is there.
    pub(super) shape: Shape,
    /// It is alongside the object that holds the member, not in it (`refundStatus` alongside `refund.status`).
    pub(super) beside: bool,
}

/// What a source holds, and so what is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// Text as it came.
    Text,
    /// Text that is not empty: what an object is called by.
    Id,
    /// Text in lower case.
    Lower,
    /// Text, with `canceled` in the spelling of orders.
    InvoiceStatus,
    /// An integral number as it came.
    Integer,
    /// True or false.
    Flag,
    /// ISO 8601, or Unix seconds.
    Time,
    /// A decimal in US dollars.
    Dollars,
    /// A decimal in the object's currency.
    Decimal,
    /// An integer in the object's unit.
    Millis,
    /// The currency of `Decimal` and `Millis`; used up by them.
    Currency,
    /// The unit of `Millis`; used up by it.
    Unit,
    /// This text and no other.
    Exactly(&'static str),
    /// Any object as it came.
    Free,
    /// Any object with the names of its members in snake_case.
    Snake,
    /// An object of ours.
    Object(&'static Table),
    /// A list of objects of ours.
    List(&'static Table),
    /// An object that holds the one member of this table, written without the object around it.
    Inside(&'static Table),
    /// Text alongside an object, for the member of that object which has it as a source.
    Beside,
}

impl Member {
    pub(super) const fn new(name: &'static str, about: &'static str, sources: &'static [Source]) -> Self {
        Self { name, about, sources, hidden: false }
    }

    pub(super) const fn hidden(name: &'static str, sources: &'static [Source]) -> Self {
        Self { name, about: "", sources, hidden: true }
    }
}

/// A source in the object that holds the member.
pub(super) const fn source(camel: &'static str, shape: Shape) -> Source {
    Source { camel, shape, beside: false }
}

/// A source alongside that object.
pub(super) const fn beside(camel: &'static str, shape: Shape) -> Source {
    Source { camel, shape, beside: true }
}

impl Table {
    /// The table of these members.
    pub(super) const fn new(members: &'static [Member]) -> Self {
        let mut index = [None; PLACES];
        let mut spellings = 0;
        let mut number = 0;
        let mut member = 0;
        while member < members.len() {
            let sources = members[member].sources;
            let mut source = 0;
            while source < sources.len() {
                if !sources[source].beside {
                    let place = Place { member: member as u8, source: source as u8, number };
                    let camel = sources[source].camel.as_bytes();
                    let humps = humps(camel);
                    put(&mut index, hash(camel, camel.len()), place);
                    spellings += 1;
                    if humps > 0 {
                        put(&mut index, hash(camel, camel.len() + humps), place);
                        spellings += 1;
                    }
                }
                number += 1;
                source += 1;
            }
            member += 1;
        }
        assert!(2 * spellings <= PLACES, "an index is at most half full");
        Self { members, index }
    }

    /// How many sources it has.
    pub(super) const fn sources(&self) -> usize {
        let mut count = 0;
        let mut at = 0;
        while at < self.members.len() {
            count += self.members[at].sources.len();
            at += 1;
        }
        count
    }

    /// The number of the source called `name` in either spelling, counted through the table, and whether it is the
    /// snake_case one. A name without a hump has one spelling.
    pub(super) fn find(&self, name: &str) -> Option<(usize, bool)> {
        if name.is_empty() {
            return None;
        }
        let mut at = hash(name.as_bytes(), name.len());
        while let Some(Place { member, source, number }) = self.index[at] {
            let source = &self.members[usize::from(member)].sources[usize::from(source)];
            if let Some(snake) = spelled(source.camel, name) {
                return Some((usize::from(number), snake));
            }
            at = (at + 1) % PLACES;
        }
        None
    }
}

/// The same for both spellings of a name but for their length: first and last letter in lower case.
const fn hash(name: &[u8], length: usize) -> usize {
    let first = name[0].to_ascii_lowercase() as usize;
    let last = name[name.len() - 1].to_ascii_lowercase() as usize;
    (5 * first + 3 * last + 17 * length) % PLACES
}

const fn humps(camel: &[u8]) -> usize {
    let mut count = 0;
    let mut at = 0;
    while at < camel.len() {
        count += camel[at].is_ascii_uppercase() as usize;
        at += 1;
    }
    count
}

const fn put(index: &mut [Option<Place>; PLACES], hash: usize, place: Place) {
    let mut at = hash;
    while index[at].is_some() {
        at = (at + 1) % PLACES;
    }
    index[at] = Some(place);
}

/// The member that `name`, in either of the provider's spellings, falls into.
pub(super) fn member_of(table: &Table, name: &str) -> Option<&'static Member> {
    let mut spellings =
        table.members.iter().flat_map(|member| member.sources.iter().map(move |source| (member, source)));
    spellings.find(|(_, source)| spelled(source.camel, name).is_some()).map(|(member, _)| member)
}

/// Whether `name` is `camel`, and if so, in snake_case (`true`) or as it is (`false`).
#[inline]
fn spelled(camel: &str, name: &str) -> Option<bool> {
    let camel = camel.as_bytes();
    let name = name.as_bytes();
    // Most names differ by their first byte or their length; the snake_case spelling is never shorter.
    if camel.first() != name.first() || camel.len() > name.len() {
        return None;
    }
    if camel.len() == name.len() {
        return (camel == name).then_some(false);
    }
    let mut rest = name;
    for byte in camel {
        if byte.is_ascii_uppercase() {
            rest = rest.strip_prefix(b"_")?;
        }
        rest = rest.strip_prefix(&[byte.to_ascii_lowercase()])?;
    }
    rest.is_empty().then_some(true)
}

/// `firstName` as `first_name`, `ZIPCode` as `zip_code`, and what is in snake_case already as it is.
pub(super) fn snake(name: &str) -> Cow<'_, str> {
    if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    let mut snake = String::with_capacity(name.len() + 4);
    let mut before = None;
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        let hump = c.is_ascii_uppercase()
            && before.is_some_and(|before: char| {
                let acronym_ends = before.is_ascii_uppercase() && rest.peek().is_some_and(char::is_ascii_lowercase);
                before.is_ascii_lowercase() || before.is_ascii_digit() || acronym_ends
            });
        if hump {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        before = Some(c);
    }
    Cow::Owned(snake)
}

#[cfg(test)]
mod tests {
    use super::super::{invoice, order};
    use super::*;

    #[test]
    fn a_name_is_known_in_both_spellings() {
        assert_eq!(spelled("orderId", "orderId"), Some(false));
        assert_eq!(spelled("orderId", "order_id"), Some(true));
        assert_eq!(spelled("id", "id"), Some(false));
        assert_eq!(spelled("destinationWalletAddressBsc", "destination_wallet_address_bsc"), Some(true));
        for other in ["", "order", "orderid", "order_Id", "order_i", "order_id_", "OrderId", "orderIdx"] {
            assert_eq!(spelled("orderId", other), None, "{other}");
        }
    }

    #[test]
    fn every_spelling_of_a_table_is_found_and_no_other() {
        for table in [order::ORDER, invoice::INVOICE, invoice::PAYMENT] {
            let sources = table.members.iter().flat_map(|member| member.sources).enumerate();
            for (number, source) in sources.filter(|(_, source)| !source.beside) {
                assert_eq!(table.find(source.camel), Some((number, false)), "{}", source.camel);
                let snake = snake(source.camel);
                assert_eq!(table.find(&snake), Some((number, snake != source.camel)), "{snake}");
            }
            for other in ["", "x", "refund_Status", "orderid", "order", "Status", "statuses", "é"] {
                assert_eq!(table.find(other), None, "{other}");
            }
        }
    }

    #[test]
    fn names_become_snake_case() {
        for (name, expected) in [
            ("firstName", "first_name"),
            ("first_name", "first_name"),
            ("addressLine2", "address_line2"),
            ("line2Extra", "line2_extra"),
            ("ZIPCode", "zip_code"),
            ("postalCODE", "postal_code"),
            ("Élan A", "Élan a"),
            ("", ""),
        ] {
            assert_eq!(snake(name), expected, "{name}");
        }
    }
}
