//! The trace that a sender follows its webhook by (W3C Trace Context, Level 1), kept for the records that come of it. Pure.

/// The header that names the trace and the sender's place in it.
pub const TRACEPARENT: &str = "traceparent";

/// The header with what tracing systems along the way add.
pub const TRACESTATE: &str = "tracestate";

/// Longest text of either header that is kept: what the recommendation wants carried at least (section 3.3.1.5).
const BYTES_MAX: usize = 512;

/// Most members of a `tracestate` (section 3.3.1.1).
const MEMBERS_MAX: usize = 32;

/// A valid trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`
    pub parent: Box<str>,
    /// `tracestate`, its lines joined; empty where there was none that is valid.
    pub state: Box<str>,
}

impl Trace {
    /// The trace of a request with these headers, each with all of its lines; `None` when it has none that is valid.
    /// A state that is not valid costs the state alone, as the recommendation wants.
    pub fn read<'h>(
        mut parents: impl Iterator<Item = &'h [u8]>,
        states: impl Iterator<Item = &'h [u8]>,
    ) -> Option<Self> {
        let parent = text(parents.next()?).filter(|text| is_parent(text))?;
        if parents.next().is_some() {
            return None;
        }
        let mut state = String::new();
        for line in states {
            let line = text(line).unwrap_or("=");
            if state.len() + line.len() > BYTES_MAX {
                state.clear();
                state.push('=');
                break;
            }
            if !state.is_empty() {
                state.push(',');
            }
            state.push_str(line);
        }
        if state.len() > BYTES_MAX || !is_state(&state) {
            state.clear();
        }
        Some(Self { parent: parent.into(), state: state.into() })
    }
}

/// Printable ASCII, without spaces around it.
fn text(header: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(header).ok()?.trim_matches([' ', '\t']);
    let printable = text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    Some(text).filter(|text| printable && text.len() <= BYTES_MAX)
}

/// `version-traceid-parentid-flags`; a version after 00 may have more behind it (section 4.3).
fn is_parent(text: &str) -> bool {
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let mut parts = text.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let version = next();
    let trace = next();
    let parent = next();
    let flags = next();
    let ids = hex(trace, 32) && !is_zero(trace) && hex(parent, 16) && !is_zero(parent);
    let whole = hex(version, 2) && version != "ff" && ids && hex(flags, 2);
    whole && (version != "00" || parts.next().is_none())
}

/// `key=value` members with commas between (section 3.3.1).
fn is_state(text: &str) -> bool {
    let is_key = |key: &str| {
        let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
        (1..=256).contains(&key.len()) && key.bytes().all(legal) && !key.starts_with(['_', '-', '*', '/', '@'])
    };
    let is_value = |value: &str| {
        (1..=256).contains(&value.len())
            && !value.ends_with(' ')
            && value.bytes().all(|byte| !matches!(byte, b',' | b'=' | b'\t'))
    };
    let is_member = |member: &str| member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value));
    let members = || text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty());
    members().all(is_member) && members().count() <= MEMBERS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(parents: &[&str], states: &[&str]) -> Option<(String, String)> {
        let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
        let parents = bytes(parents);
        let states = bytes(states);
        let trace = Trace::read(parents.iter().map(Vec::as_slice), states.iter().map(Vec::as_slice))?;
        Some((trace.parent.into(), trace.state.into()))
    }

    #[test]
    fn a_valid_parent_is_kept_as_it_came() {
        for parent in [PARENT, "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-what-will-be"] {
            assert_eq!(read(&[parent], &[]), Some((parent.to_owned(), String::new())));
        }
    }

    #[test]
    fn an_invalid_parent_is_no_trace_whatever_its_state() {
        let zero = "0".repeat(32);
        for parent in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            &format!("00-{zero}-b7ad6b7169203331-01"),
            &format!("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-{}", "x".repeat(512)),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\u{e9}-01",
        ] {
            assert_eq!(read(&[parent], &["a=1"]), None, "{parent}");
        }
        assert_eq!(read(&[PARENT, PARENT], &[]), None, "two of them");
        assert_eq!(read(&[], &["a=1"]), None);
    }

    #[test]
    fn a_state_is_joined_and_one_that_is_none_is_left_out() {
        let state = |states: &[&str]| read(&[PARENT], states).map(|(_, state)| state).unwrap_or_default();
        assert_eq!(
            state(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "t@v=2 3"]),
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,t@v=2 3"
        );
        assert_eq!(state(&["a=1,,b=2"]), "a=1,,b=2", "members may be empty");
        let long = format!("a={}", "x".repeat(250));
        let many = vec!["a=1"; 33].join(",");
        for wrong in [&["no member"][..], &["A=1"], &["a="], &["a=b=c"], &["a=\u{1}"], &[&many], &[&long, &long, &long]]
        {
            assert_eq!(state(wrong), "", "{wrong:?}");
        }
    }
}
