//! `availability`: whether the provider sells at the moment.

use super::client::{Client, failed};
use super::output::Mark;
use super::values::text;
use crate::exit::Exit;
use crate::provider::rest::CommerceStatus;
use crate::text::foreign;

/// Asks and shows.
///
/// # Errors
///
/// Status 1 when commerce is not available, so that scripts can ask.
pub(super) async fn run(client: &Client) -> Result<(), Exit> {
    let answer = client.rest.commerce_status().await.map_err(failed)?;
    let output = client.output;
    if output.is_json() {
        output.raw(&answer.raw)?;
    } else {
        output.fields(&rows(&answer.view, output.colour()))?;
    }
    match answer.view.status.as_str() {
        "available" => Ok(()),
        status => Err(Exit::failed(format!(
            "commerce is not available: the provider says `{}`; try again later",
            foreign(status)
        ))),
    }
}

fn rows(status: &CommerceStatus, colour: bool) -> Vec<(&'static str, String)> {
    let verdict = |good: bool| if good { Mark::Ok } else { Mark::Wrong }.mark(colour);
    let number = |raw: Option<&serde_json::value::RawValue>| text(raw.map(serde_json::value::RawValue::get));
    let mut rows = vec![("commerce", format!("{} {}", verdict(status.status == "available"), foreign(&status.status)))];
    if status.escrow_balance.is_some() {
        let balance = number(status.escrow_balance.as_deref());
        let minimum = number(status.minimum_required.as_deref());
        rows.push(("escrow", format!("{balance}, of which {minimum} must be there")));
    }
    let features = status.features.iter().map(|(name, on)| format!("{} {}", verdict(*on), foreign(name)));
    rows.push(("features", text(Some(&features.collect::<Vec<_>>().join("  ")))));
    rows
}
