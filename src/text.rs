//! Text that somebody else wrote, made fit for a log line, a terminal, a header and a page.

use std::fmt::{self, Write};

/// Longest foreign text in a log line, in characters: enough for an id, a reason or a URL, and a peer that sends
/// megabytes cannot fill the log.
const FOREIGN_CHARS_MAX: usize = 200;

/// `text` on one line, without control characters or anything that a terminal obeys, cut off after 200 characters
/// (`…` marks the rest). Use it for every text of a peer that goes into a log field or a status.
pub fn foreign(text: &str) -> impl fmt::Display + '_ {
    Clipped { text, chars_max: FOREIGN_CHARS_MAX }
}

/// The same with a bound of its own: at most `chars_max` characters as they are written, and `…` for the rest.
pub fn clip(text: &str, chars_max: usize) -> String {
    Clipped { text, chars_max }.to_string()
}

/// The first bytes of `text`, at most `bytes_max`, that end with a whole character.
pub fn truncated(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

struct Clipped<'a> {
    text: &'a str,
    chars_max: usize,
}

impl fmt::Display for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escaping = Escaping::new(f, self.chars_max);
        escaping.write_str(self.text)?;
        escaping.finish()
    }
}

/// Writes text on, escaping what is unsafe and dropping what is beyond a number of characters.
pub struct Escaping<'w> {
    inner: &'w mut dyn Write,
    left: usize,
    cut: bool,
}

impl<'w> Escaping<'w> {
    /// Writes to `inner`, at most `chars_max` characters: an escape counts as those it is written with.
    pub fn new(inner: &'w mut dyn Write, chars_max: usize) -> Self {
        Self { inner, left: chars_max, cut: false }
    }

    /// Marks that something was left out, if it was.
    ///
    /// # Errors
    ///
    /// What `inner` answers.
    pub fn finish(self) -> fmt::Result {
        if self.cut { self.inner.write_char('…') } else { Ok(()) }
    }
}

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let escape = is_unsafe(c).then(|| c.escape_default());
            let written = escape.as_ref().map_or(1, |escape| escape.len());
            if self.cut || written > self.left {
                self.cut = true;
                return Ok(());
            }
            self.left -= written;
            match escape {
                Some(escape) => write!(self.inner, "{escape}")?,
                None => self.inner.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Control characters (C0 with newlines, DEL, C1: what begins an ANSI sequence or forges a second line), line and
/// paragraph separators, and the marks that reverse or hide text.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
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
        check("\u{202e}txt\u{2028}\u{61c}", r"\u{202e}txt\u{2028}\u{61c}");
        check("", "");
        // Made fit twice, it is the same: no escape holds what is escaped.
        check(&foreign("a\\\"\n\u{9b}").to_string(), "a\\\"\\n\\u{9b}");
    }

    #[test]
    fn a_long_foreign_text_is_cut_between_characters() {
        check(&"ä".repeat(200), &"ä".repeat(200));
        check(&"ä".repeat(201), &format!("{}…", "ä".repeat(200)));
        check(&"\n".repeat(1 << 20), &format!("{}…", r"\n".repeat(100)));
    }

    #[test]
    fn a_bound_is_one_of_written_characters() {
        assert_eq!(clip("aéb", 2), "aé…");
        assert_eq!(clip("ab", 2), "ab");
        assert_eq!(clip("a\u{1b}[31m\nb", 20), r"a\u{1b}[31m\nb");
        // An escape is written whole or not at all, and nothing follows what was left out.
        assert_eq!(clip("a\u{1b}b", 6), "a…");
        assert_eq!(clip("a\u{1b}b", 7), "a\\u{1b}…");
    }

    #[test]
    fn bytes_end_with_a_whole_character() {
        assert_eq!(truncated("aé".into(), 2), "a");
        assert_eq!(truncated("aé".into(), 3), "aé");
    }
}
