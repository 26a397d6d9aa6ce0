//! Where settings and secrets come from: a file, the environment, credentials and flags.

use super::mistakes::{Origin, printable};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The file that is read when none is named and it exists.
pub const DEFAULT_FILE: &str = "/etc/pepay-relay/pepay-relay.toml";

/// Everything that settings and secrets are read from. The environment is a copy: tests need no process of their own,
/// and a reload sees what the start saw.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The settings file, which must exist; `None`: defaults and the environment only.
    pub file: Option<PathBuf>,
    /// Environment variables.
    pub env: BTreeMap<String, OsString>,
    /// `$CREDENTIALS_DIRECTORY`, where systemd puts credentials.
    pub credentials: Option<PathBuf>,
    /// Flags of the command line by the key they override (`log.level`); they win over everything.
    pub flags: BTreeMap<&'static str, String>,
}

impl Sources {
    /// The named file, else `$PEPAY_RELAY_CONFIG`, else [`DEFAULT_FILE`] if it exists; and the process environment.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place where the environment enters the settings")]
        let env: BTreeMap<String, OsString> =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        let named = file.or_else(|| env.get("PEPAY_RELAY_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from));
        let file = named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()));
        let credentials = env.get("CREDENTIALS_DIRECTORY").filter(|name| !name.is_empty()).map(PathBuf::from);
        Self { file, env, credentials, flags: BTreeMap::new() }
    }

    /// The settings file as mistakes name it.
    pub(super) fn origin(&self, line: usize) -> Origin {
        match &self.file {
            Some(file) => Origin::File { name: printable(&file.to_string_lossy()), line },
            None => Origin::Default,
        }
    }
}

/// A small text file; or the reason why it cannot be read, without its content.
pub(super) fn read_bounded(file: &Path, bytes_max: u64) -> Result<String, String> {
    let open = std::fs::File::open(file).map_err(|error| reason(&error))?;
    let mut bytes = Vec::new();
    open.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("larger than {} KiB", bytes_max >> 10));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8 text".into())
}

/// Why a file cannot be read, in words without its name.
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        kind => kind.to_string(),
    }
}

/// The text of an environment variable.
pub(super) fn variable<'s>(sources: &'s Sources, name: &str) -> Option<&'s OsStr> {
    sources.env.get(name).map(OsString::as_os_str)
}
