//! `simulator`: the simulated provider as a server of its own.

use super::args;
use super::output::Output;
use crate::exit::Exit;
use crate::simulator::{self, Options, Pace};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Serves until told to stop.
pub(super) async fn run(arguments: &args::Simulator, output: Output) -> Result<(), Exit> {
    let pace = match arguments.rate {
        rate if rate > 0.0 => Pace::Automatic(Duration::from_secs_f64(1.0 / rate)),
        _ => Pace::Stepped,
    };
    let webhook_urls = arguments.webhook_url.clone();
    let options = Options {
        listen: arguments.listen,
        seed: arguments.seed,
        pace,
        webhook_urls,
        // It may run for days.
        remember_events: false,
        ..Options::default()
    };
    let stop = CancellationToken::new();
    let ready = |simulator: &simulator::Simulator| {
        let lines = [
            ("provider.api_url", simulator.api_url()),
            ("provider.stream_url", simulator.stream_url()),
            ("API key", simulator.api_key().to_owned()),
            ("webhook secret", simulator.webhook_secret().to_owned()),
        ];
        for (name, value) in lines {
            // A reader that has gone is told by the next thing that it asks for.
            let _ = output.line(format!("{name:20} {value}"));
        }
    };
    let served = simulator::serve(options, ready, stop.clone());
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        stopped = super::interrupted() => {
            stopped?;
            stop.cancel();
            served.await
        }
    };
    ended.map_err(|error| {
        Exit::failed(format!("the simulator cannot serve at {}: {error}; choose another --listen", arguments.listen))
    })
}
