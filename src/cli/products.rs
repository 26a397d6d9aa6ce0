//! `products`: what can be bought.

use super::args::commerce::{Products, Search};
use super::client::{Client, failed};
use super::output::{align_right, table};
use super::values::{text, usd};
use crate::exit::Exit;
use crate::text::foreign;

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
