//! `--account`: for which of the accounts in the settings a command speaks to the provider.

use super::Context;
use super::args::Global;
use super::sources;
use crate::config::{self, Account, AccountSecrets};
use crate::exit::Exit;

/// The account of a command: the one that `--account` names, or the only one; `None` where the settings have no accounts.
///
/// # Errors
///
/// Status 2 where it is not clear which one is meant, with those that there are.
pub(super) fn chosen<'c>(accounts: &'c [Account], wanted: Option<&str>) -> Result<Option<&'c Account>, Exit> {
    let names = || accounts.iter().map(|account| account.name.as_str()).collect::<Vec<_>>().join(", ");
    match (accounts, wanted) {
        ([], None) => Ok(None),
        ([], Some(_)) => Err(Exit::usage("--account: the settings have no [accounts.NAME]; leave it out")),
        ([sole], None) => Ok(Some(sole)),
        (_, None) => Err(Exit::usage(format!("--account is missing: the settings have {}", names()))),
        (_, Some(wanted)) => match accounts.iter().find(|account| account.name == wanted) {
            Some(account) => Ok(Some(account)),
            None => Err(Exit::usage(format!("--account: no such account in the settings, which have {}", names()))),
        },
    }
}

/// The same by the settings, without looking at any secret. Their errors are reported where they are read with the secrets.
///
/// # Errors
///
/// Status 2 where it is not clear which one is meant.
pub(super) fn name(global: &Global) -> Result<Option<String>, Exit> {
    let Ok(config) = config::for_status(&sources(global)) else { return Ok(None) };
    Ok(chosen(&config.accounts, global.account.as_deref())?.map(|account| account.name.clone()))
}

/// Settings and secrets as if the chosen account were the only one, and its secrets.
///
/// # Errors
///
/// Status 2 where it is not clear which one is meant.
pub(super) fn narrowed(mut context: Context, wanted: Option<&str>) -> Result<(Context, AccountSecrets), Exit> {
    let Context { config, secrets, .. } = &mut context;
    let account = chosen(&config.accounts, wanted)?.cloned();
    let name = account.as_ref().map_or("", |account| &account.name);
    secrets.accounts.retain(|secrets| secrets.name == name);
    config.accounts.retain(|account| account.name == name);
    config.commerce.customer_id = account.map_or(config.commerce.customer_id.take(), |account| account.customer_id);
    let secrets = secrets.accounts.first().cloned();
    let secrets =
        secrets.ok_or_else(|| Exit::failed("the account has no secrets; see `pepay-relay check --offline`"))?;
    Ok((context, secrets))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]
    use super::*;

    fn named(accounts: &[&str], wanted: Option<&str>) -> Result<Option<String>, String> {
        let accounts: Vec<_> = accounts.iter().map(|name| Account::named(name)).collect();
        let chosen = chosen(&accounts, wanted).map(|account| account.map(|account| account.name.clone()));
        chosen.map_err(|exit| {
            assert_eq!(exit.status(), Exit::USAGE);
            exit.message().to_owned()
        })
    }

    #[test]
    fn an_account_has_to_be_named_where_there_are_several() {
        assert_eq!(named(&[], None), Ok(None));
        assert_eq!(named(&["a"], None), Ok(Some("a".to_owned())));
        assert_eq!(named(&["a", "b"], Some("b")), Ok(Some("b".to_owned())));
        assert_eq!(named(&["a", "b"], None).unwrap_err(), "--account is missing: the settings have a, b");
        assert!(named(&["a", "b"], Some("c")).unwrap_err().contains("which have a, b"));
        assert!(named(&[], Some("a")).unwrap_err().contains("no [accounts.NAME]"));
    }
}
