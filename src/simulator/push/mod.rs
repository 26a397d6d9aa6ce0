//! The two channels on which the provider speaks first.

pub(super) mod replay;
pub(super) mod webhooks;
pub(super) mod websocket;
