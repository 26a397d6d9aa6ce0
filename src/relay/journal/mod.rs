//! The relay's memory in the control topic: which events each transaction published, and the proof that none is missing.

mod entry;
mod read_back;

pub use entry::{Damaged, Entries, Entry, read};
pub use read_back::{Breach, ReadBack};
