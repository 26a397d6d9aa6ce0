//! `products`: what can be bought.

use super::args::parse_text;
use super::client::{Client, failed};
use super::output::{align_right, table};
use super::values::{text, usd};
use crate::exit::Exit;
use crate::text::foreign;
use clap::{Args, Subcommand};

/// Subcommands of `products`.
#[derive(Debug, Subcommand)]
pub enum Products {
    /// Find products by words
    #[command(after_help = "Example:\n  pepay-relay products search \"usb-c cable\" --limit 5")]
    Search(Search),
}

/// Arguments of `products search`.
#[derive(Args, Debug)]
pub struct Search {
    /// Words to search for
    #[arg(value_name = "WORDS", required = true, value_parser = parse_words)]
    pub words: Vec<String>,
    /// Maximum number of products [default: the provider's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: Option<u32>,
}

/// Runs one of the commands of `products`.
pub(super) async fn run(arguments: &Products, client: &Client) -> Result<(), Exit> {
    match arguments {
        Products::Search(arguments) => search(arguments, client).await,
    }
}

/// Finds products; status 1 when there are none, as `grep` has it.
async fn search(arguments: &Search, client: &Client) -> Result<(), Exit> {
    let words = arguments.words.join(" ");
    let found = client.rest.search(&words, arguments.limit).await.map_err(failed)?;
    let output = client.output;
    if output.is_json() {
        output.raw(&found.raw)?;
    } else if !found.view.is_empty() {
        let mut table = table(["product", "title", "USD"]);
        for product in &found.view {
            let id = product.product_id.as_deref();
            let title = product.title.as_deref();
            table.add_row([text(id), text(title), usd(product.price.as_ref())]);
        }
        align_right(&mut table, &[2]);
        output.table(&table)?;
    }
    if found.view.is_empty() {
        return Err(Exit::failed(format!("nothing is found for `{}`; try fewer or other words", foreign(&words))));
    }
    Ok(())
}

fn parse_words(text: &str) -> Result<String, String> {
    parse_text(text).map_err(|empty| format!("{empty}; say what to look for, such as `usb-c cable`"))
}
