//! The command line: every command with its help and examples, and nothing that runs.
//!
//! The names are a contract with scripts (docs/commands.md). Wrong usage is reported here, before anything is read. The
//! arguments of a command are in the file that runs it.

use super::args::Global;
use super::check::Check;
use super::checkout::Checkout;
use super::demo::Demo;
use super::devnet::Devnet;
use super::events::{self, Events};
use super::forget::{self, Forget};
use super::orders::Orders;
use super::packaging::{Completions, Man};
use super::payments::Payments;
use super::products::Products;
use super::replay::{self, Replay};
use super::run::Run;
use super::schema::{self, Schema};
use super::simulator::{self, Simulator};
use super::smoke::{self, Smoke};
use super::status::Status;
use super::tail::Tail;
use super::topics::Topics;
use super::webhook::{self, Webhook};
use clap::{Parser, Subcommand};

/// Relays Pepay commerce order events to Kafka, each exactly once.
#[derive(Debug, Parser)]
#[command(name = "pepay-relay", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pepay-relay demo                       watch orders go through their life, without any setup
  pepay-relay check                      check the settings and reach everything they name
  pepay-relay run                        run the relay until it is stopped
  pepay-relay tail --from 15m            order events of the last 15 minutes, and new ones

Exit status: 0 done, 1 failed, 2 wrong usage, 75 fenced, 77 Kafka refused, 78 settings wrong.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the relay until SIGTERM or SIGINT
    #[command(after_help = "Examples:\n  pepay-relay run --config ./pepay-relay.toml\n  \
        pepay-relay run --from 36h     once, by hand: drop the cursor and fetch the last 36 hours again")]
    Run(Run),
    /// Show the relay at work: simulated provider, Kafka and relay in one process
    #[command(
        long_about = "Show the relay at work: simulated provider, Kafka and relay in one process.\n\n\
            Needs no network and no settings. Orders walk through their life, each record is printed as it arrives \
            with the leg that delivered it first, a connection is cut and comes back, and the books are balanced at the end.\n\n\
            With --nodes the relay is a cluster whose nodes are processes. The one that serves shard 0 is killed, and another \
            takes the shard over.",
        after_help = "Examples:\n  pepay-relay demo\n  pepay-relay demo --keep       keep running and print the addresses\n  \
            pepay-relay demo --nodes 2    kill a node of a cluster, and see another one take over"
    )]
    Demo(Demo),
    /// Check the settings, then reach the provider, Kafka and the topics
    #[command(after_help = "Examples:\n  pepay-relay check\n  pepay-relay check --offline     only the settings\n\n\
        Exits with 78 when the settings are wrong, with 1 when anything else is.")]
    Check(Check),
    /// Compare the topics with what the relay needs
    #[command(
        after_help = "Examples:\n  pepay-relay topics\n  pepay-relay topics --create     create the missing ones"
    )]
    Topics(Topics),
    /// Follow records like a log
    #[command(after_help = "Examples:\n  pepay-relay tail\n  \
        pepay-relay tail --topic dead_letter --from beginning --count 10 --output json\n  \
        pepay-relay tail --from 15m --order 3f0c9a52-7d1e-4b86-9a2f-1c5e8d7b6a40")]
    Tail(Tail),
    /// Show the state of the running relay
    #[command(after_help = "Examples:\n  pepay-relay status\n  pepay-relay status --output json\n\n\
        Asks the relay at `admin.listen`; exits with 1 when none answers.")]
    Status(Status),
    /// Show whether the provider sells at the moment
    #[command(after_help = "Example:\n  pepay-relay availability\n\nExits with 1 when it does not.")]
    Availability,
    /// Find products
    #[command(subcommand, after_help = "Example:\n  pepay-relay products search \"usb-c cable\"")]
    Products(Products),
    /// Place an order: estimate, address, invoice
    #[command(
        subcommand,
        after_help = "Example:\n  \
            pepay-relay checkout create B0D7KX91QZ:2 --customer-id cust_8842 --address-file home.toml"
    )]
    Checkout(Box<Checkout>),
    /// Show the state of payments
    #[command(subcommand, after_help = "Example:\n  pepay-relay payments status 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11")]
    Payments(Payments),
    /// List, show, follow or cancel orders
    #[command(
        subcommand,
        after_help = "Examples:\n  pepay-relay orders list --status shipped\n  \
            pepay-relay orders get 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11 --watch"
    )]
    Orders(Orders),
    /// Take orders through their life on devnet
    #[command(
        subcommand,
        after_help = "Example:\n  pepay-relay devnet simulate 7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11 payment_confirmed"
    )]
    Devnet(Devnet),
    /// List events of the provider's log, or show one
    #[command(after_help = events::EXAMPLES)]
    Events(Events),
    /// Sign, verify and send webhooks by hand
    #[command(after_help = webhook::EXAMPLES)]
    Webhook(Webhook),
    /// Publish events of the provider's log again
    #[command(after_help = replay::EXAMPLES)]
    Replay(Replay),
    /// Remove an order from the topic of latest events
    #[command(after_help = forget::EXAMPLES)]
    Forget(Forget),
    /// Run the provider's integration checklist, from the key to Kafka
    #[command(after_help = smoke::EXAMPLES)]
    Smoke(Smoke),
    /// Run the simulated provider, for your own integration tests
    #[command(after_help = simulator::ROUTES)]
    Simulator(Simulator),
    /// Print the JSON Schema of each topic's value, or an AsyncAPI document
    #[command(after_help = schema::EXAMPLES)]
    Schema(Schema),
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  pepay-relay completions bash > /usr/share/bash-completion/completions/pepay-relay"
    )]
    Completions(Completions),
    /// Print a manual page
    #[command(after_help = "Examples:\n  pepay-relay man > pepay-relay.1\n  pepay-relay man tail > pepay-relay-tail.1")]
    Man(Man),
}

impl Command {
    /// Whether it speaks to the provider, or in its place, for one account.
    pub fn speaks_to_the_provider(&self) -> bool {
        match self {
            Self::Check(_)
            | Self::Availability
            | Self::Products(_)
            | Self::Checkout(_)
            | Self::Payments(_)
            | Self::Orders(_)
            | Self::Devnet(_)
            | Self::Events(_)
            | Self::Webhook(_)
            | Self::Replay(_)
            | Self::Smoke(_) => true,
            Self::Run(_)
            | Self::Demo(_)
            | Self::Topics(_)
            | Self::Tail(_)
            | Self::Status(_)
            | Self::Forget(_)
            | Self::Simulator(_)
            | Self::Schema(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
