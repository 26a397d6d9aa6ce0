//! A simulated Pepay: the provider's documented behaviour as a model, behind its REST, WebSocket and webhook skin.

pub mod model;
