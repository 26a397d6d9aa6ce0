//! The reshaping of one object of the provider's into one of ours: writes it, and keeps what has no place in it.
//!
//! Each object's members are sorted into slots, one for each spelling that a table knows; then the table's members
//! are written in order, each from the first of its slots that holds a value of the right kind. What is left over,
//! because it is unknown, of the wrong kind, or different from what won, goes to `extra` under its path.

use super::money::Decimal;
use super::table::{self, Member, Shape, Source, Table};
use super::{time, write};
use crate::provider::tape::{At, ROOT, Tape};
use std::borrow::Cow;

/// Slots of one object: a pair a source, camelCase and snake_case.
type Slots = [At; SLOTS_MAX];

/// Room for the largest table; checked when the tables are compiled.
const SLOTS_MAX: usize = 64;
const _: () = assert!(2 * super::order::ORDER.sources() <= SLOTS_MAX);
const _: () = assert!(2 * super::invoice::INVOICE.sources() <= SLOTS_MAX);

/// An empty slot. No member's value is at the root.
const ABSENT: At = ROOT;

/// One object being rewritten.
pub(super) struct Reshape<'a, 'w> {
    tape: &'w Tape<'a>,
    table: &'static Table,
    /// Names of members of `table` that are left out.
    dropped: &'w [String],
    slots: Slots,
    terms: Terms<'a>,
    extra: Vec<Extra>,
}

/// How amounts of the object are to be read.
#[derive(Default)]
struct Terms<'a> {
    /// What the object names as its currency.
    currency: Option<Cow<'a, str>>,
    /// It names a currency, but not one that can be read: its amounts are in nobody knows what.
    unreadable: bool,
    /// Whether its integral amounts count thousandths of that currency.
    millis: bool,
    /// Whether an amount was written, so that currency and unit are in the value.
    used: bool,
}

/// A value without a place of its own.
struct Extra {
    path: String,
    /// Known names above it: two values can have one path (`"a.b"` as a name, and `b` in `a`), but not at one depth.
    depth: usize,
    at: At,
}

/// Where a value is, from the top; names as they came.
#[derive(Clone, Copy)]
enum Path<'p> {
    Top,
    Member(&'p Path<'p>, At),
    Item(&'p Path<'p>, usize),
}

impl<'a, 'w> Reshape<'a, 'w> {
    /// Sorts the members of `object`.
    pub(super) fn new(tape: &'w Tape<'a>, object: At, table: &'static Table, dropped: &'w [String]) -> Self {
        let mut reshape =
            Self { tape, table, dropped, slots: [ABSENT; SLOTS_MAX], terms: Terms::default(), extra: Vec::new() };
        reshape.slots = reshape.sort(table, object, &Path::Top);
        reshape
    }

    /// The member of ours called `name` as text, where it is text.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        let (_, at) = self.values(name).find(|(shape, at)| self.says(*shape, *at))?;
        self.tape.string(at)
    }

    /// Appends the member called `name` alone, without settling what happens to its other spellings.
    pub(super) fn copy(&mut self, name: &str, out: &mut Vec<u8>) {
        let chosen: Option<(Shape, At)> = self.values(name).find(|(shape, at)| self.says(*shape, *at));
        if !chosen.is_some_and(|(shape, at)| self.leaf(shape, at, out)) {
            out.extend_from_slice(b"null");
        }
    }

    /// Appends the whole object.
    pub(super) fn object_at_top(mut self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.terms = self.terms();
        let slots = self.slots;
        self.members(self.table, &slots, &Path::Top, out);
        self.settle_terms();
        if !self.dropped.iter().any(|name| name == "extra") {
            write::own_name("extra", out);
            self.write_extra(out);
        }
        out.push(b'}');
    }

    /// Values of the top member called `name`, the winner first.
    fn values(&self, name: &str) -> impl Iterator<Item = (Shape, At)> {
        let sources =
            self.table.members.iter().flat_map(|member| member.sources.iter().map(move |source| (member, source)));
        let slots = sources.zip(self.slots.chunks_exact(2)).filter(move |((member, _), _)| member.name == name);
        let values = slots.flat_map(|((_, source), pair)| pair.iter().map(move |at| (source.shape, *at)));
        values.filter(|(_, at)| self.holds(*at))
    }

    /// Whether a text means something where it is: an id that is empty means as little as none.
    fn says(&self, shape: Shape, at: At) -> bool {
        self.tape.kind(at) == b'"' && !(matches!(shape, Shape::Id) && self.tape.text(at) == "\"\"")
    }

    /// Whether a slot holds something; `null` counts as nothing.
    fn holds(&self, at: At) -> bool {
        at != ABSENT && !self.tape.is_null(at)
    }

    fn is_dropped(&self, name: &str) -> bool {
        self.dropped.iter().any(|dropped| dropped == name)
    }

    /// Sorts the members of `object` into slots; unknown ones are kept for `extra`.
    fn sort(&mut self, table: &'static Table, object: At, path: &Path<'_>) -> Slots {
        let mut slots = [ABSENT; SLOTS_MAX];
        for at in self.tape.members(object) {
            match table.find(&self.tape.name(at)) {
                Some((source, snake)) => slots[2 * source + usize::from(snake)] = at,
                None => self.keep(&Path::Member(path, at), at),
            }
        }
        slots
    }

    fn members(&mut self, table: &'static Table, slots: &[At], path: &Path<'_>, out: &mut Vec<u8>) {
        let mut rest = slots;
        for member in table.members {
            let (own, behind) = rest.split_at(2 * member.sources.len());
            rest = behind;
            if matches!(path, Path::Top) && self.is_dropped(member.name) {
                continue;
            }
            let start = out.len();
            write::own_name(member.name, out);
            self.member(member, own, path, out);
            if member.hidden {
                out.truncate(start);
            }
        }
    }

    /// Appends the value of one member, and keeps for `extra` what of its slots the value does not show.
    fn member(&mut self, member: &Member, slots: &[At], path: &Path<'_>, out: &mut Vec<u8>) {
        let sources = || member.sources.iter().zip(slots.chunks_exact(2));
        let beside =
            sources().find(|(source, _)| matches!(source.shape, Shape::Beside)).map_or(&[][..], |(_, pair)| pair);
        let start = out.len();
        let mut won = None;
        for (source, pair) in sources() {
            if matches!(source.shape, Shape::Beside | Shape::Currency | Shape::Unit) {
                continue;
            }
            let path = if source.beside { &Path::Top } else { path };
            for at in pair.iter().copied() {
                if !self.holds(at) {
                    continue;
                }
                let before = out.len();
                let kept = self.extra.len();
                if !self.value(source, at, beside, path, out) {
                    self.keep(&Path::Member(path, at), at);
                } else if let Some(end) = won {
                    let same = out[start..end] == out[before..];
                    out.truncate(before);
                    if !same {
                        self.extra.truncate(kept);
                        self.keep(&Path::Member(path, at), at);
                    }
                } else {
                    won = Some(out.len());
                }
            }
        }
        if won.is_none() && !self.only_beside(member, beside, path, out) {
            let list = member.sources.iter().any(|source| lists(source.shape));
            out.extend_from_slice(if list { b"[]" } else { b"null" });
        }
    }

    /// Where there is no object, appends one that has only the text that is alongside it.
    fn only_beside(&mut self, member: &Member, beside: &[At], path: &Path<'_>, out: &mut Vec<u8>) -> bool {
        let table = member.sources.iter().find_map(|source| match source.shape {
            Shape::Object(table) => Some(table),
            _ => None,
        });
        match table {
            // Its members are not at the top, although this one of them is.
            Some(table) if beside.iter().any(|at| self.holds(*at) && self.tape.kind(*at) == b'"') => {
                self.object(table, None, beside, &Path::Item(path, 0), out);
                true
            }
            _ => {
                for at in beside.iter().copied().filter(|at| self.holds(*at)).collect::<Vec<_>>() {
                    self.keep(&Path::Member(&Path::Top, at), at);
                }
                false
            }
        }
    }

    /// Appends what `source` makes of the value at `at`; appends nothing where it is of another kind.
    fn value(&mut self, source: &Source, at: At, beside: &[At], path: &Path<'_>, out: &mut Vec<u8>) -> bool {
        let here = Path::Member(path, at);
        match (source.shape, self.tape.kind(at)) {
            (Shape::Object(table), b'{') => self.object(table, Some(at), beside, &here, out),
            (Shape::List(table), b'[') => self.list(table, at, &here, out),
            (Shape::Inside(table), b'{') => {
                let Some(member) = table.members.first() else { return false };
                let slots = self.sort(table, at, &here);
                self.member(member, &slots[..2 * member.sources.len()], &here, out);
            }
            (Shape::Free, b'{') => write::value(self.tape, at, out),
            (Shape::Snake, b'{') => self.snake(at, &here, out),
            (shape, _) => return self.leaf(shape, at, out),
        }
        true
    }

    fn object(&mut self, table: &'static Table, object: Option<At>, beside: &[At], path: &Path<'_>, out: &mut Vec<u8>) {
        let mut slots = object.map_or([ABSENT; SLOTS_MAX], |object| self.sort(table, object, path));
        let sources = table.members.iter().flat_map(|member| member.sources);
        for (source, pair) in sources.zip(slots.chunks_exact_mut(2)) {
            if source.beside {
                pair.copy_from_slice(beside);
            }
        }
        out.push(b'{');
        self.members(table, &slots, path, out);
        out.push(b'}');
    }

    fn list(&mut self, table: &'static Table, list: At, path: &Path<'_>, out: &mut Vec<u8>) {
        let tape = self.tape;
        write::list(tape.items(list).enumerate(), out, |(number, item), out| {
            let here = Path::Item(path, number);
            if tape.kind(item) == b'{' {
                return self.object(table, Some(item), &[], &here, out);
            }
            if !tape.is_null(item) {
                self.keep(&here, item);
            }
            out.extend_from_slice(b"null");
        });
    }

    /// Appends an object with the names of its members in snake_case; where two become one, camelCase wins.
    fn snake(&mut self, object: At, path: &Path<'_>, out: &mut Vec<u8>) {
        let members = write::sorted(self.tape, object);
        let mut renamed: Vec<_> = members.iter().map(|(name, at)| (table::snake(name), &**name, *at)).collect();
        // Of two spellings the one with a capital comes first: it sorts before `_` and before small letters.
        renamed.sort_unstable();
        let mut written: Option<(&str, usize)> = None;
        out.push(b'{');
        for (name, _, at) in &renamed {
            let start = out.len();
            if let Some((_, value)) = written.filter(|(winner, _)| winner == name) {
                write::value(self.tape, *at, out);
                let same = out[value..start] == out[start..];
                out.truncate(start);
                if !same {
                    self.keep(&Path::Member(path, *at), *at);
                }
                continue;
            }
            write::name(name, out);
            written = Some((name, out.len()));
            write::value(self.tape, *at, out);
        }
        out.push(b'}');
    }

    /// Appends a value that is no object and no list; appends nothing where it is of another kind.
    fn leaf(&mut self, shape: Shape, at: At, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let text = || self.tape.string(at);
        let number = || self.tape.number(at);
        let decimal = || text().or_else(|| number().map(Cow::Borrowed));
        match shape {
            Shape::Id | Shape::Text | Shape::Lower if self.says(shape, at) => {
                write::value(self.tape, at, out);
                if matches!(shape, Shape::Lower) {
                    out[start..].make_ascii_lowercase();
                }
            }
            Shape::InvoiceStatus => match text() {
                Some(status) => write::string(if status == "canceled" { "cancelled" } else { &status }, out),
                None => return false,
            },
            Shape::Integer if number().is_some_and(integral) => out.extend_from_slice(self.tape.text(at).as_bytes()),
            Shape::Flag if matches!(self.tape.kind(at), b't' | b'f') => {
                out.extend_from_slice(self.tape.text(at).as_bytes());
            }
            Shape::Time => {
                return match number() {
                    Some(number) => time::seconds(number, out),
                    None => text().is_some_and(|text| time::iso(&text, out)),
                };
            }
            Shape::Dollars => return decimal().is_some_and(|text| money(Decimal::plain(&text), "USD", out)),
            Shape::Decimal if !self.terms.unreadable => {
                let currency = self.terms.currency.as_deref().unwrap_or("USD");
                let written = decimal().is_some_and(|text| money(Decimal::plain(&text), currency, out));
                self.terms.used |= written;
                return written;
            }
            Shape::Millis if self.terms.millis => {
                let written = number().is_some_and(|text| money(Decimal::thousandths(text), "USD", out));
                self.terms.used |= written;
                return written;
            }
            Shape::Exactly(only) => return text().is_some_and(|text| text == only),
            _ => return false,
        }
        true
    }

    /// Reads currency and unit of the object. The only documented unit is `usd_millis`; amounts in any other unit,
    /// or in none, are not guessed at.
    fn terms(&self) -> Terms<'a> {
        let mut named = false;
        let mut currency = None;
        let mut unit = None;
        for (shape, at) in self.money_terms() {
            let text = self.tape.string(at);
            if matches!(shape, Shape::Unit) {
                unit = unit.or(text);
            } else {
                named = true;
                currency = currency.or(text.filter(|text| is_currency(text)));
            }
        }
        let unreadable = named && currency.is_none();
        let dollars = !unreadable && currency.as_deref().is_none_or(|currency| currency.eq_ignore_ascii_case("usd"));
        Terms { currency, unreadable, millis: dollars && unit.as_deref() == Some("usd_millis"), used: false }
    }

    /// Keeps currency and unit for `extra` unless the amounts show them.
    fn settle_terms(&mut self) {
        if self.is_dropped("amount") {
            return;
        }
        let said = |at: At| {
            let text = self.tape.string(at).unwrap_or_default();
            let currency = self.terms.currency.as_deref().is_some_and(|currency| currency.eq_ignore_ascii_case(&text));
            self.terms.used && (currency || self.terms.millis && text == "usd_millis")
        };
        let unsaid = self.money_terms().map(|(_, at)| at).filter(|at| !said(*at));
        for at in unsaid.collect::<Vec<_>>() {
            self.keep(&Path::Member(&Path::Top, at), at);
        }
    }

    /// What the top object has of currency and unit.
    fn money_terms(&self) -> impl Iterator<Item = (Shape, At)> {
        let sources = self.table.members.iter().flat_map(|member| member.sources);
        let slots = sources.zip(self.slots.chunks_exact(2));
        let terms = slots.filter(|(source, _)| matches!(source.shape, Shape::Currency | Shape::Unit));
        let values = terms.flat_map(|(source, pair)| pair.iter().map(|at| (source.shape, *at)));
        values.filter(|(_, at)| self.holds(*at))
    }

    /// Keeps the value at `at` for `extra`.
    fn keep(&mut self, path: &Path<'_>, at: At) {
        let mut text = String::new();
        let depth = path.render(self.tape, &mut text);
        let root = |dropped: &String| {
            text.strip_prefix(&**dropped).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if !self.dropped.iter().any(root) {
            self.extra.push(Extra { path: text, depth, at });
        }
    }

    /// Appends what was kept, sorted by path. Of a name that an object has twice the last one counts; different
    /// values that happen to have one path differ by a mark behind it.
    fn write_extra(&mut self, out: &mut Vec<u8>) {
        let order = |a: &Extra, b: &Extra| a.path.cmp(&b.path).then(a.depth.cmp(&b.depth)).then(b.at.cmp(&a.at));
        let mut extra = std::mem::take(&mut self.extra);
        extra.sort_unstable_by(order);
        extra.dedup_by(|earlier, kept| earlier.path == kept.path && earlier.depth == kept.depth);
        while extra.windows(2).any(|pair| pair[0].path == pair[1].path) {
            for at in (1..extra.len()).rev() {
                if extra[at].path == extra[at - 1].path {
                    extra[at].path.push_str("#2");
                }
            }
            extra.sort_unstable_by(order);
        }
        out.push(b'{');
        for Extra { path, at, .. } in &extra {
            write::name(path, out);
            write::value(self.tape, *at, out);
        }
        out.push(b'}');
    }
}

impl Path<'_> {
    /// Appends the path with points between its steps; returns how many steps are above the last.
    fn render(self, tape: &Tape<'_>, text: &mut String) -> usize {
        let (above, step) = match self {
            Path::Top => return 0,
            Path::Member(above, at) => (above, tape.name(at)),
            Path::Item(above, number) => (above, Cow::Owned(number.to_string())),
        };
        let depth = above.render(tape, text);
        if matches!(above, Path::Top) {
            text.push_str(&step);
            return 0;
        }
        text.push('.');
        text.push_str(&step);
        depth + 1
    }
}

fn lists(shape: Shape) -> bool {
    match shape {
        Shape::List(_) => true,
        Shape::Inside(table) => {
            table.members.iter().flat_map(|member| member.sources).any(|source| lists(source.shape))
        }
        _ => false,
    }
}

/// Whether a number of JSON has neither fraction nor exponent.
fn integral(number: &str) -> bool {
    number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// Whether a text can be a currency's code; the longest in use has 10 letters.
fn is_currency(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn money(amount: Option<Decimal<'_>>, currency: &str, out: &mut Vec<u8>) -> bool {
    let Some(amount) = amount else {
        return false;
    };
    out.extend_from_slice(b"{\"amount\":\"");
    amount.write(out);
    out.extend_from_slice(b"\",\"currency\":\"");
    out.extend(currency.bytes().map(|byte| byte.to_ascii_uppercase()));
    out.extend_from_slice(b"\"}");
    true
}
