//! `simulator`: the simulated provider as a server of its own.

use super::args;
use super::seams::simulator::{self, Options};
use crate::exit::Exit;

/// Serves until told to stop.
pub(super) async fn run(arguments: &args::Simulator) -> Result<(), Exit> {
    let options = Options { listen: arguments.listen, seed: arguments.seed, rate: arguments.rate };
    tokio::select! {
        served = simulator::serve(options) => {
            served.map_err(|error| Exit::failed(format!("the simulator stopped: {error}")))
        }
        stopped = super::interrupted() => stopped,
    }
}
