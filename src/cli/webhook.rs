//! `webhook`: signs, verifies and sends a body by hand, as the provider and the relay do.

use super::args::{Global, LogLevel};
use super::output::{Mark, Output};
use super::{account, log, sources};
use crate::clock::{now_ms, spelled};
use crate::config::{self, Config};
use crate::exit::Exit;
use crate::loopback::is_loopback;
use crate::provider::Environment;
use crate::provider::event::decode;
use crate::provider::signature::{self, Headers, Refusal};
use crate::provider::tls;
use crate::text::foreign;
use clap::{Args, Subcommand, ValueHint};
use reqwest::{Client, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) const EXAMPLES: &str = "\
Examples:
  pepay-relay webhook sign body.json
  pepay-relay webhook verify body.json --header 'X-Pepay-Timestamp: 1768472101250' --header 'X-Pepay-Signature: 02…'
  pepay-relay webhook send body.json --url http://127.0.0.1:8787/webhooks/pepay";

/// Arguments of `webhook`.
#[derive(Args, Debug)]
pub struct Webhook {
    /// What to do.
    #[command(subcommand)]
    pub command: WebhookCommand,
}

/// What `webhook` does.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Print the headers of a body, signed with the newest secret
    #[command(after_help = EXAMPLES)]
    Sign(WebhookSign),
    /// Check a body and its headers as the relay would
    #[command(after_help = EXAMPLES)]
    Verify(WebhookVerify),
    /// Send a body, signed with the newest secret
    #[command(after_help = EXAMPLES)]
    Send(WebhookSend),
}

/// Arguments of `webhook sign`.
#[derive(Args, Debug)]
pub struct WebhookSign {
    /// The body's file; `-` is stdin
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Sign as if at this time, in Unix milliseconds [default: now]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
    pub timestamp: Option<i64>,
}

/// Arguments of `webhook verify`.
#[derive(Args, Debug)]
pub struct WebhookVerify {
    /// The body's file; `-` is stdin
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// A header of the webhook, as `NAME: VALUE`; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE", required = true, value_parser = parse_header)]
    pub headers: Vec<(String, String)>,
    /// Check as if at this time, in Unix milliseconds, for an older webhook [default: now]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
    pub at: Option<i64>,
}

/// Arguments of `webhook send`.
#[derive(Args, Debug)]
pub struct WebhookSend {
    /// The body's file; `-` is stdin
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Destination: https, or plain http to loopback
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub url: String,
}

/// The largest answer that is read: the provider's is `{"ok":true}`.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What these commands work with.
pub(super) struct Own {
    config: Config,
    /// Where the settings name none, a webhook is signed without it, as the provider does (`api-spec/webhooks`).
    environment: Option<Environment>,
    secrets: Vec<SecretString>,
}

/// The settings as far as they are there, and the webhook secrets without which none of it can be done.
///
/// # Errors
///
/// Status 78 and every mistake at once; 2 where it is not clear whose secrets are meant.
pub(super) fn settings(global: &Global) -> Result<Own, Exit> {
    let account = account::name(global)?;
    let own = config::for_webhooks(&sources(global), account.as_deref());
    let (config, environment, secrets) = own.map_err(|mistakes| Exit::settings(mistakes.to_string()))?;
    log(global.log_level.unwrap_or(LogLevel::Warn), config.log.format)?;
    Ok(Own { config, environment, secrets })
}

/// Does it.
///
/// # Errors
///
/// Status 1 and the reason when a webhook is not genuine, or the answer to one that was sent is no 2xx.
pub(super) async fn run(arguments: &Webhook, own: &Own, output: Output) -> Result<(), Exit> {
    match &arguments.command {
        WebhookCommand::Sign(arguments) => sign(arguments, own, output),
        WebhookCommand::Verify(arguments) => verify(arguments, own, output),
        WebhookCommand::Send(arguments) => send(arguments, own, output).await,
    }
}

fn sign(arguments: &WebhookSign, Own { config, environment, secrets }: &Own, output: Output) -> Result<(), Exit> {
    let body = read(&arguments.file, config.webhook.body_bytes_max)?;
    let headers = signed(&body, arguments.timestamp.unwrap_or_else(now_ms), *environment, secrets);
    if output.is_json() {
        let object: serde_json::Map<_, _> = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        return Ok(output.json(&object)?);
    }
    headers.iter().try_for_each(|(name, value)| output.line(format!("{name}: {value}")))?;
    Ok(())
}

fn verify(arguments: &WebhookVerify, Own { config, secrets, .. }: &Own, output: Output) -> Result<(), Exit> {
    let body = read(&arguments.file, config.webhook.body_bytes_max)?;
    let header = |wanted: &str| {
        let found = arguments.headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_bytes())
    };
    let headers = Headers {
        timestamp: header(signature::TIMESTAMP),
        signature: header(signature::SIGNATURE),
        previous: header(signature::SIGNATURE_PREVIOUS),
    };
    let keys = secrets.iter().map(|secret| secret.expose_secret().as_bytes());
    let tolerance = config.webhook.tolerance;
    let judged = signature::verify(headers, &body, keys, arguments.at.unwrap_or_else(now_ms), tolerance);
    if output.is_json() {
        output
            .json(&json!({ "genuine": judged.is_ok(), "reason": judged.err().map(|refusal| refusal.to_string()) }))?;
    } else {
        match judged {
            Ok(()) => output.line(format!("{} genuine", Mark::Ok.mark(output.colour())))?,
            Err(refusal) => output.line(format!("{} {refusal}", Mark::Wrong.mark(output.colour())))?,
        }
    }
    judged.map_err(|refusal| Exit::failed(why(refusal, &headers, config)))
}

/// The reason as a sentence, with what to look at.
fn why(refusal: Refusal, headers: &Headers<'_>, config: &Config) -> String {
    match refusal {
        Refusal::InvalidSignature if headers.timestamp.is_none() => {
            format!("{refusal}: there is no `{}` header; give it with --header", signature::TIMESTAMP)
        }
        Refusal::InvalidSignature if headers.signature.is_none() && headers.previous.is_none() => {
            format!("{refusal}: there is no `{}` header; give it with --header", signature::SIGNATURE)
        }
        Refusal::InvalidSignature => format!(
            "{refusal}: no secret of ours made this signature of these bytes; see that the secret is the endpoint's, and \
             that the body is the one that came, to the last byte"
        ),
        Refusal::TimestampOutOfRange => format!(
            "{refusal}: the signature is right, but its time is further than webhook.tolerance ({}) from now; check both \
             clocks, or check as if at another time with --at",
            spelled(config.webhook.tolerance)
        ),
    }
}

async fn send(arguments: &WebhookSend, own: &Own, output: Output) -> Result<(), Exit> {
    let Own { config, environment, secrets } = own;
    let url = address(&arguments.url)?;
    let body = read(&arguments.file, config.webhook.body_bytes_max)?;
    let headers = signed(&body, now_ms(), *environment, secrets);
    let Posted { status, text } = post(&url, headers, body, config).await?;
    if output.is_json() {
        output.json(&json!({ "status": status, "body": text }))?;
    } else {
        output.line(format!("{status} {}", foreign(&text)))?;
    }
    match status {
        200..=299 => Ok(()),
        _ => Err(Exit::failed(format!(
            "answered {status}, and only a 2xx takes the webhook; see what the relay logs of it"
        ))),
    }
}

/// What was answered to a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Posted {
    /// The HTTP status.
    pub(super) status: u16,
    /// The body.
    pub(super) text: String,
}

/// Where a webhook may be sent: its content is personal, so in clear only to this machine.
pub(super) fn address(url: &str) -> Result<Url, Exit> {
    let wrong = |why: &str| Exit::failed(format!("`{}` {why}", foreign(url)));
    let url = Url::parse(url)
        .map_err(|error| wrong(&format!("is not an address ({error}); write it as https://host/path")))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if url.host_str().is_some_and(is_loopback) => Ok(url),
        "http" => Err(wrong("would send the webhook in clear; use https, or plain http to the loopback")),
        _ => Err(wrong("is not an http address; write it as https://host/path")),
    }
}

/// Posts a webhook once, without following a redirect.
pub(super) async fn post(
    url: &Url,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    config: &Config,
) -> Result<Posted, Exit> {
    let tls = tls::client_config().map_err(|error| Exit::failed(error.to_string()))?;
    let client = Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(config.provider.timeout)
        .build()
        .map_err(|error| Exit::failed(format!("cannot send: {error}")))?;
    let mut request = client.post(url.clone()).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let silent = |error: reqwest::Error| {
        let why = if error.is_timeout() { "no answer in time" } else { "no connection" };
        let host = url.host_str().unwrap_or_default();
        Exit::failed(format!("{host}: {why}; see that it listens there and that nothing is in the way"))
    };
    let mut answer = request.send().await.map_err(silent)?;
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(silent)? {
        text.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - text.len())]);
    }
    Ok(Posted { status: answer.status().as_u16(), text: String::from_utf8_lossy(&text).into_owned() })
}

/// The headers of a webhook, as the provider sends them (`api-spec/webhooks-authentication`); what only an event has is
/// left out of a body that is none.
pub(super) fn signed(
    body: &[u8],
    at_ms: i64,
    environment: Option<Environment>,
    secrets: &[SecretString],
) -> Vec<(String, String)> {
    let timestamp = at_ms.to_string();
    let newest = secrets.first().map_or("", |secret| secret.expose_secret());
    let mut headers = vec![("content-type", "application/json".to_owned())];
    if let Ok(event) = decode(body) {
        headers.push((signature::EVENT, header_safe(&event.event_type)));
        headers.push((signature::EVENT_ID, header_safe(&event.id)));
    }
    headers.extend(environment.map(|environment| (signature::ENVIRONMENT, environment.as_str().to_owned())));
    headers.push((signature::SIGNATURE, signature::sign(newest.as_bytes(), &timestamp, body)));
    headers.push((signature::TIMESTAMP, timestamp));
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A header takes the printable characters of ASCII (RFC 9110, section 5.5); these two are not signed in any case.
fn header_safe(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).collect()
}

/// The body, which no relay would take beyond `webhook.body_bytes_max`.
fn read(file: &Path, bytes_max: usize) -> Result<Vec<u8>, Exit> {
    let bound = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut body = Vec::new();
    let done = match file.to_str() {
        Some("-") => std::io::stdin().lock().take(bound).read_to_end(&mut body),
        _ => std::fs::File::open(file).and_then(|file| file.take(bound).read_to_end(&mut body)),
    };
    done.map_err(|error| Exit::failed(format!("{}: {error}; name a file, or `-` for stdin", file.display())))?;
    if body.len() > bytes_max {
        return Err(Exit::failed(format!(
            "the body has more than {bytes_max} bytes, which the relay answers with 413; see webhook.body_bytes_max"
        )));
    }
    Ok(body)
}

/// A header as it is written in a request; its name in lower case, since names mean the same in any.
fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected `NAME: VALUE`")?;
    match name.trim() {
        "" => Err("expected `NAME: VALUE`".to_owned()),
        name => Ok((name.to_ascii_lowercase(), value.trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn in_clear_only_to_this_machine() {
        for url in ["https://shop.example/hook", "http://127.0.0.1:8787/x", "http://localhost/x", "http://[::1]:1/x"] {
            assert!(address(url).is_ok(), "{url}");
        }
        for url in ["http://shop.example/hook", "http://10.0.0.1/x", "ftp://127.0.0.1/x", "shop.example", ""] {
            assert!(address(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_id_that_is_no_header_does_not_become_one() {
        let body = br#"{"id":"evt_1-0\r\nx: y","object":"event","type":"a b","data":{"object":{}}}"#;
        let headers = signed(body, 7, Some(Environment::Devnet), &["s".into()]);
        assert_eq!(headers[2].1, "evt_1-0x:y");
        assert!(headers.iter().all(|(_, value)| !value.contains(['\r', '\n'])), "{headers:?}");
    }

    #[test]
    fn headers_are_names_and_values() {
        assert_eq!(parse_header("X-A:b").unwrap(), ("x-a".to_owned(), "b".to_owned()));
        assert_eq!(parse_header(" X-A : b: c ").unwrap(), ("x-a".to_owned(), "b: c".to_owned()));
        for wrong in ["", "X-A", ": b"] {
            assert!(parse_header(wrong).is_err(), "{wrong}");
        }
    }
}
