//! Listeners: the node's one QUIC socket with the clients on it, and the HTTP port.

mod convert;
mod endpoint;
pub mod http;
mod native;
pub mod view;

pub use convert::{Incoming, incoming_of, response_of, topology_of};
pub use endpoint::NodeEndpoint;
pub use native::{AdminHandler, AdminRequest, ClientLimits, ClientServer, ClientServerConfig};
