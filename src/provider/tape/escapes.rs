//! What the escapes in a JSON string mean (RFC 8259, section 7).

/// The text of a string's inside. Half a surrogate pair, as JavaScript leaves it where it cuts an emoji in two,
/// is no character and becomes U+FFFD.
pub(super) fn text(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut after = escaped.chars();
        match after.next() {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let (c, behind) = unicode(escaped);
                text.push(c);
                rest = behind;
                continue;
            }
            Some(itself) => text.push(itself),
            None => {}
        }
        rest = after.as_str();
    }
    text.push_str(rest);
    text
}

/// The character that a text begins with which is `u` and four hex digits, or a surrogate pair of two such escapes, and
/// what follows it.
fn unicode(escaped: &str) -> (char, &str) {
    let unit = |text: &str| text.get(1..5).and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let first = unit(escaped).unwrap_or(0xfffd);
    let behind = escaped.get(5..).unwrap_or_default();
    let second = behind.strip_prefix("\\u").and(behind.get(1..)).and_then(unit);
    let pair = [Some(first), second].into_iter().flatten();
    match char::decode_utf16(pair).next() {
        Some(Ok(c)) => (c, behind.get(6 * (c.len_utf16() - 1)..).unwrap_or_default()),
        _ => (char::REPLACEMENT_CHARACTER, behind),
    }
}
