//! What the integration tests share.

pub mod kafka;
pub mod settings;
