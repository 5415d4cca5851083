//! Listeners: the node's one QUIC socket, and the clients on it.

mod convert;
mod endpoint;
mod native;

pub use convert::{request_of, response_of};
pub use endpoint::NodeEndpoint;
pub use native::{AdminHandler, AdminRequest, ClientLimits, ClientServer, ClientServerConfig};
