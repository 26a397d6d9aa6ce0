//! `schema`: what consumers can rely on, in a form that tools read.

use super::output::Output;
use crate::exit::Exit;
use crate::normalize;

/// Prints one JSON object: topic key → self-contained JSON Schema (2020-12) of the topic's value.
pub(super) fn run(output: Output) -> Result<(), Exit> {
    let schemas = normalize::schemas();
    // Indented, whatever the format: it is for files and eyes, and JSON is JSON.
    output.line(format!("{schemas:#}"))?;
    Ok(())
}
