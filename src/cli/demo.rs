//! x
use super::args;
use super::output::Output;
use crate::exit::Exit;
pub(super) async fn run(_a: &args::Demo, _o: Output) -> Result<(), Exit> {
    Ok(())
}
