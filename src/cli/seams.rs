//! Places where other parts will be called; each is replaced by the part of the same path.

/// `crate::telemetry`
pub(super) mod telemetry {
    /// Control and direction characters of `text` made visible.
    pub(crate) fn foreign(text: &str) -> String {
        let hidden = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        text.chars().map(|c| if hidden(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
    }
}
