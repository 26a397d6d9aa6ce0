//! The rules for `kafka.oauth_*`: tokens by client credentials, which librdkafka fetches itself.
//!
//! Only a build with the feature `oauth` can: librdkafka asks for tokens by libcurl.

use super::rules::{Rules, Side};
use crate::loopback::is_loopback;
use rdkafka::ClientConfig;
use reqwest::Url;

/// `kafka.sasl_mechanism` with tokens (RFC 7628).
pub(super) const OAUTHBEARER: &str = "OAUTHBEARER";

/// What brokers get alongside a token is short; the bound keeps a slip of the pen out of each handshake.
const EXTENSIONS_BYTES_MAX: usize = 4096;

impl Rules<'_> {
    /// Every rule of them.
    pub(super) fn oauth(&mut self) {
        let kafka = &self.config.kafka;
        let is_chosen = kafka.sasl_mechanism.as_deref() == Some(OAUTHBEARER);
        let of_it = [
            ("kafka.oauth_token_url", kafka.oauth_token_url.is_some()),
            ("kafka.oauth_client_id", kafka.oauth_client_id.is_some()),
            ("kafka.oauth_scope", kafka.oauth_scope.is_some()),
            ("kafka.oauth_extensions", kafka.oauth_extensions.is_some()),
            ("kafka.oauth_secret_file", self.config.secret_files.kafka_oauth_secret.is_some()),
        ];
        if !is_chosen {
            let remedy = "set kafka.sasl_mechanism = \"OAUTHBEARER\", or remove it";
            for (key, is_set) in of_it {
                self.demand(!is_set, &[key, "kafka.sasl_mechanism"], "has no effect without OAUTHBEARER", remedy);
            }
            return;
        }
        let remedy = "use a package, or build with --features oauth, which needs CMake";
        self.demand(is_built_in(), &["kafka.sasl_mechanism"], "is OAUTHBEARER, which this build does not have", remedy);
        for (key, is_set) in &of_it[..2] {
            let what = format!("is OAUTHBEARER, and {key} is not set");
            let remedy = format!("set {key}");
            self.demand(*is_set || self.wrong.contains(key), &["kafka.sasl_mechanism"], &what, &remedy);
        }
        let remedy = "remove one of them: a token says who the relay is";
        let without_user = kafka.username.is_none();
        self.demand_of_two(
            without_user,
            [
                Side { key: "kafka.username", what: "is set alongside OAUTHBEARER, which has no user", remedy },
                Side { key: "kafka.sasl_mechanism", what: "is OAUTHBEARER alongside kafka.username", remedy },
            ],
        );
        self.token_url();
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        // It is one half of `Authorization: Basic`, which a colon ends.
        let legal = kafka.oauth_client_id.as_deref().is_none_or(|id| plain(id) && !id.contains(':'));
        let remedy = "write it as the identity provider does, without spaces and colons";
        self.demand(legal, &["kafka.oauth_client_id"], "is not a client id", remedy);
        let legal = kafka.oauth_scope.as_deref().is_none_or(|scope| scope.split(' ').all(plain));
        let remedy = "write words with one space between them: \"kafka openid\"";
        self.demand(legal, &["kafka.oauth_scope"], "is not a scope", remedy);
        let legal = kafka.oauth_extensions.as_deref().is_none_or(are_extensions);
        let remedy = "write name=value with commas between, names of letters alone: \"logicalCluster=lkc-1\"";
        self.demand(legal, &["kafka.oauth_extensions"], "is not a list of extensions", remedy);
        if !kafka.tls {
            self.findings.warn("kafka.sasl_mechanism OAUTHBEARER without kafka.tls sends the token in clear");
        }
    }

    fn token_url(&mut self) {
        const KEY: &str = "kafka.oauth_token_url";
        let Some(text) = &self.config.kafka.oauth_token_url else { return };
        let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        let Some(url) = url else {
            self.demand(
                false,
                &[KEY],
                "is not a valid address",
                "write https://HOST and the path of its token endpoint",
            );
            return;
        };
        let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let remedy = "remove them; the client's secret is a secret of its own (kafka.oauth_secret_file)";
        self.demand(bare, &[KEY], "holds credentials or a fragment", remedy);
        let safe = url.scheme() == "https" || url.host_str().is_some_and(is_loopback);
        self.demand(safe, &[KEY], "would send the client's secret in clear", "use https://, or a loopback host");
    }
}

/// Whether the librdkafka that is linked can ask for tokens; one that was built without libcurl cannot.
pub(super) fn is_built_in() -> bool {
    let features = ClientConfig::new().create_native_config().and_then(|config| config.get("builtin.features"));
    features.is_ok_and(|features| features.split([',', ' ']).any(|feature| feature == "oidc"))
}

/// `name=value` with commas between; names and values as RFC 7628, section 3.1, has them, `auth` being the token itself.
fn are_extensions(text: &str) -> bool {
    let is_extension = |pair: &str| {
        let Some((name, value)) = pair.split_once('=') else { return false };
        let legal = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic()) && name != "auth";
        legal && !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    };
    text.len() <= EXTENSIONS_BYTES_MAX && text.split(',').all(is_extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_names_of_letters_with_values() {
        for (text, legal) in [
            ("logicalCluster=lkc-1,identityPoolId=pool-1", true),
            ("a=b=c", true),
            ("a=b c", true),
            ("a=", false),
            ("=b", false),
            ("a", false),
            ("a=b,", false),
            ("auth=x", false),
            ("a1=b", false),
            ("a=\u{1}", false),
            ("", false),
        ] {
            assert_eq!(are_extensions(text), legal, "{text:?}");
        }
    }

    /// The build with the feature has it; the build that drops it in silence fails here.
    #[test]
    fn the_feature_brings_what_it_is_for() {
        assert_eq!(is_built_in(), cfg!(feature = "oauth"));
    }
}
