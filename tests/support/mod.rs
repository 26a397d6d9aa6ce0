//! What the integration tests share.

pub mod acl;
pub mod foreign;
pub mod half_open;
#[cfg(feature = "oauth")]
pub mod identity;
pub mod kafka;
pub mod node;
pub mod ports;
pub mod proc;
pub mod process;
pub mod proxy;
pub mod records;
pub mod registry;
pub mod relay;
pub mod settings;
pub mod systemd;
pub mod tls;
pub mod watch;
