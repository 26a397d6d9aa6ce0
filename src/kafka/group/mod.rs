//! The consumer group that shares the relay's shards among the nodes of a cluster: the node that is assigned a partition of the
//! inbox serves the shard of that number.
//!
//! The group assigns and nothing else: a shard is safe by its transactional id, whichever node believes to own it.

mod assignment;
mod member;
mod view;

pub use assignment::{Act, Assignment};
pub use member::{Change, Membership, Reports};
pub(super) use view::members;
pub use view::{Observer, View};
