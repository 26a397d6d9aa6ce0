//! What the layers below a request refuse by themselves, and how the peer is answered then.

/// Why a peer had no request answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It speaks HTTP/2 without having asked (RFC 9113, section 3.3): a proxy that is set to it, as a rule.
    Http2,
    /// Its head is no HTTP.
    Malformed,
    /// Its head is too large, or has too many fields.
    HeadTooLarge,
    /// Its head has begun and does not end.
    HeadTooSlow,
    /// The TLS handshake failed, or did not end.
    Tls,
    /// Its address has as many connections as it may.
    TooMany,
}

impl Refusal {
    /// Every one, in the order of the table of metrics.
    pub const ALL: [Self; 6] =
        [Self::Http2, Self::Malformed, Self::HeadTooLarge, Self::HeadTooSlow, Self::Tls, Self::TooMany];

    /// The label `reason` of `connections_refused_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http2 => "http2",
            Self::Malformed => "malformed",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTooSlow => "head_too_slow",
            Self::Tls => "tls",
            Self::TooMany => "too_many",
        }
    }

    /// The status, and the whole answer; none where the peer could not read it.
    pub(super) const fn answer(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Malformed => Some((
                400,
                "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n\
                 content-length: 29\r\n\r\n{\"error\":\"malformed_request\"}",
            )),
            Self::HeadTooLarge => Some((
                431,
                "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: 29\r\n\r\n{\"error\":\"headers_too_large\"}",
            )),
            Self::Http2 | Self::HeadTooSlow | Self::Tls | Self::TooMany => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_and_its_body_json() {
        for (status, answer) in Refusal::ALL.into_iter().filter_map(Refusal::answer) {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok_and(|body| body["error"].is_string()));
        }
    }
}
