//! The log messages of the product, read out of its sources: each with its level and its fields.

use super::documents::cell;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// One `info!`, `warn!` or `error!` of the product.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// `INFO`, `WARN` or `ERROR`.
    pub(super) level: &'static str,
    /// The words, with `…` where they differ from case to case.
    pub(super) text: String,
    /// The names of the fields, in the order in which they are written.
    pub(super) fields: Vec<String>,
}

/// Every message at INFO and above that this source logs, without those of its tests.
pub(super) fn messages(source: &str) -> Vec<Message> {
    let mut found = Vec::new();
    let tokens = source.parse().unwrap_or_else(|error| panic!("a source cannot be read: {error}"));
    collect(tokens, &mut found);
    found
}

fn collect(tokens: TokenStream, found: &mut Vec<Message>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        if is_test(&tokens[..at]) {
            continue;
        }
        if let Some(level) = level(&tokens[..at]) {
            found.push(message(level, group.stream()));
        }
        collect(group.stream(), found);
    }
}

/// Whether what comes before a group is `#[cfg(test)] mod NAME`.
fn is_test(before: &[TokenTree]) -> bool {
    let Some(TokenTree::Group(attribute)) = before.len().checked_sub(3).and_then(|at| before.get(at)) else {
        return false;
    };
    attribute.delimiter() == Delimiter::Bracket
        && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
        && matches!(&before[before.len() - 2], TokenTree::Ident(word) if word == "mod")
}

/// The level of the macro whose arguments follow.
fn level(before: &[TokenTree]) -> Option<&'static str> {
    let [.., TokenTree::Ident(name), TokenTree::Punct(mark)] = before else { return None };
    let level = ["INFO", "WARN", "ERROR"].into_iter().find(|level| *name == level.to_lowercase())?;
    (mark.as_char() == '!').then_some(level)
}

fn message(level: &'static str, arguments: TokenStream) -> Message {
    let mut all = vec![Vec::new()];
    for token in arguments {
        match &token {
            TokenTree::Punct(mark) if mark.as_char() == ',' => all.push(Vec::new()),
            _ => all.last_mut().unwrap().push(token),
        }
    }
    let mut message = Message { level, text: String::new(), fields: Vec::new() };
    for argument in all {
        match argument.as_slice() {
            [TokenTree::Literal(text)] => message.text = in_words(&text.to_string()),
            // `target: "…"` names who speaks, not a field.
            [TokenTree::Ident(_), TokenTree::Punct(mark), ..] if mark.as_char() == ':' => {}
            [TokenTree::Punct(_), rest @ ..] | rest => {
                let name: String = rest.iter().take_while(|token| !is_equals(token)).map(ToString::to_string).collect();
                if !name.is_empty() && message.text.is_empty() {
                    message.fields.push(name);
                }
            }
        }
    }
    message
}

fn is_equals(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(mark) if mark.as_char() == '=')
}

/// A literal without its quotes, and with `…` for what is put into it.
fn in_words(literal: &str) -> String {
    let mut text = String::new();
    for (index, part) in literal.trim_matches('"').split(['{', '}']).enumerate() {
        text.push_str(if index % 2 == 0 { part } else { "…" });
    }
    text
}

/// The rows of docs/logs.md: once for each level and message, with the fields of all places that log it.
pub(super) fn rows(all: Vec<Message>) -> String {
    let mut lines = BTreeMap::<(usize, String), (&str, BTreeSet<String>)>::new();
    for Message { level, text, fields } in all {
        let rank = ["ERROR", "WARN", "INFO"].iter().position(|known| *known == level).unwrap();
        lines.entry((rank, text)).or_insert_with(|| (level, BTreeSet::new())).1.extend(fields);
    }
    let mut rows = "| Level | Message | Fields |\n|---|---|---|\n".to_owned();
    for ((_, text), (level, fields)) in lines.into_iter().filter(|((_, text), _)| text != "…") {
        let fields: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
        writeln!(rows, "| {level} | `{}` | {} |", cell(&text), fields.join(", ")).unwrap();
    }
    rows
}

#[test]
fn messages_are_read() {
    let source = r#"
        fn f() {
            tracing::info!(account, %from, reason = why(1, 2), "gap opened");
            select! { x = y => { warn!(target: "t", ?error, "{}: kept, {n} of {m}", x) } }
            Err(exit) if odd => error!("fenced"), // info!("a comment")
            info("no macro"); debug!("not told");
        }
        #[cfg(test)]
        mod tests { fn g() { error!("in a test"); } }
    "#;
    let message = |level, text: &str, fields: &[&str]| Message {
        level,
        text: text.to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    };
    let wanted = [
        message("INFO", "gap opened", &["account", "from", "reason"]),
        message("WARN", "…: kept, … of …", &["error"]),
        message("ERROR", "fenced", &[]),
    ];
    assert_eq!(messages(source), wanted);
    let rows = rows(vec![message("INFO", "a", &["y", "x"]), message("WARN", "…", &[]), message("INFO", "a", &["z"])]);
    assert!(rows.ends_with("|---|\n| INFO | `a` | `x`, `y`, `z` |\n"), "{rows}");
}
