//! Where webhooks come to: the path of each account, and the secrets that sign what comes there.

use crate::config;
use crate::legs::Intake;
use secrecy::SecretString;
use std::collections::HashMap;
use std::sync::Arc;

/// The webhooks of one account.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where they go, for the account whose they are.
    pub intake: Intake,
    /// The secrets that it signs with, newest first.
    pub secrets: Arc<[SecretString]>,
}

/// All accounts' webhooks, by path.
#[derive(Clone, Debug, Default)]
pub struct Endpoints(HashMap<String, Endpoint>);

impl Endpoints {
    /// Each at its path.
    pub fn new(settings: &config::Webhook, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self(
            endpoints
                .into_iter()
                .map(|endpoint| (settings.path_of(endpoint.intake.name().unwrap_or_default()), endpoint))
                .collect(),
        )
    }

    /// What comes to this path.
    pub(super) fn at(&self, path: &str) -> Option<&Endpoint> {
        self.0.get(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::labels::Account;
    use crate::provider::Environment;

    fn endpoint(place: usize, name: &str) -> Endpoint {
        Endpoint { intake: Intake::new(1).0.of(Account::at(place), name), secrets: Arc::from([]) }
    }

    #[test]
    fn an_account_with_a_name_has_a_path_of_its_own_and_the_others_have_none() {
        let account = |endpoints: &Endpoints, path: &str| endpoints.at(path).map(|at| at.intake.account().place());
        let mut settings = Config::minimal(Environment::Devnet, "").webhook;
        settings.path = "/hooks".to_owned();
        let sole = Endpoints::new(&settings, [endpoint(0, "")]);
        assert_eq!([account(&sole, "/hooks"), account(&sole, "/hooks/")], [Some(0), None]);
        for path in ["/hooks", "/hooks/"] {
            path.clone_into(&mut settings.path);
            let two = Endpoints::new(&settings, [endpoint(0, "a"), endpoint(1, "b")]);
            assert_eq!([account(&two, "/hooks/a"), account(&two, "/hooks/b")], [Some(0), Some(1)]);
            assert_eq!([account(&two, "/hooks"), account(&two, "/hooks/c"), account(&two, "/hooks/a/")], [None; 3]);
        }
    }
}
