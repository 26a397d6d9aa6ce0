//! `schema`: what consumers can rely on, in a form that tools read.

use super::asyncapi;
use super::output::Output;
use crate::exit::Exit;
use crate::normalize;
use clap::Args;

/// Examples of `schema --help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  pepay-relay schema > schemas.json               schemas of what this version writes
  pepay-relay schema --open > schemas.json        the same for consumers, which allow further members
  pepay-relay schema --asyncapi > asyncapi.json   all topics with keys, headers and values

The topics of the AsyncAPI document have their default names.";

/// Arguments of `schema`.
#[derive(Args, Debug)]
pub struct Schema {
    /// For consumers: further members are allowed, and what may be absent is not required
    #[arg(long)]
    pub open: bool,
    /// Print an AsyncAPI 3 document of all topics, with the open schemas
    #[arg(long, conflicts_with = "open")]
    pub asyncapi: bool,
}

/// Prints one JSON object: topic key → self-contained JSON Schema (2020-12) of the topic's value, or an AsyncAPI document.
pub(super) fn run(arguments: &Schema, output: Output) -> Result<(), Exit> {
    let document = match arguments {
        Schema { asyncapi: true, .. } => asyncapi::document(),
        Schema { open: true, .. } => normalize::open_schemas(),
        Schema { .. } => normalize::schemas(),
    };
    // Indented, whatever the format: it is for files and eyes, and JSON is JSON.
    output.line(format!("{document:#}"))?;
    Ok(())
}
