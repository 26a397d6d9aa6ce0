//! Text that somebody else wrote, made fit for a log line, a terminal and a page.

use std::fmt::{self, Write};

/// Longest foreign text in a log line, in characters: enough for an id, a reason or a URL, and a peer that sends
/// megabytes cannot fill the log.
const CHARS_MAX: usize = 200;

/// `text` on one line, without control characters or anything that a terminal obeys, cut off after 200 characters
/// (`…` stands for the rest). Use it for every text of a peer that goes into a log field or a status.
pub fn foreign(text: &str) -> impl fmt::Display + '_ {
    Foreign(text)
}

struct Foreign<'a>(&'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escaping = Escaping::new(f, CHARS_MAX);
        escaping.write_str(self.0)?;
        escaping.finish()
    }
}

/// Writes text on, escaping what is unsafe and dropping what is beyond a number of characters.
pub(super) struct Escaping<'w> {
    inner: &'w mut dyn Write,
    left: usize,
    cut: bool,
}

impl<'w> Escaping<'w> {
    pub(super) fn new(inner: &'w mut dyn Write, chars_max: usize) -> Self {
        Self { inner, left: chars_max, cut: false }
    }

    /// Says that something was left out, if it was.
    pub(super) fn finish(self) -> fmt::Result {
        if self.cut { self.inner.write_char('…') } else { Ok(()) }
    }
}

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.left == 0 {
                self.cut = true;
                return Ok(());
            }
            self.left -= 1;
            if is_unsafe(c) {
                write!(self.inner, "{}", c.escape_default())?;
            } else {
                self.inner.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Control characters (C0 with newlines, DEL, C1: what begins an ANSI sequence or forges a second line), line and
/// paragraph separators, and the marks that reverse or hide text.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(foreign(text).to_string(), expected);
    }

    #[test]
    fn a_foreign_text_is_one_line_of_visible_characters() {
        check("evt_1-2 über 東京", "evt_1-2 über 東京");
        check("a\nb\rc\td", r"a\nb\rc\td");
        check("\u{1b}[31mred\u{7}", r"\u{1b}[31mred\u{7}");
        check("\u{9b}31m\u{7f}\0", r"\u{9b}31m\u{7f}\u{0}");
        check("\u{202e}txt\u{2028}", r"\u{202e}txt\u{2028}");
        check("", "");
    }

    #[test]
    fn a_long_foreign_text_is_cut_between_characters() {
        check(&"ä".repeat(200), &"ä".repeat(200));
        check(&"ä".repeat(201), &format!("{}…", "ä".repeat(200)));
        assert!(foreign(&"\n".repeat(1 << 20)).to_string().len() < 1_000);
    }
}
