//! QUIC links: what a client's connection and a node's listeners and peer links have in common.
//!
//! A link is one QUIC connection with two long-lived bidirectional streams that the dialling side
//! opens: one for frames up to 64 KiB, one for chunks of larger messages, so that bulk cannot block
//! requests. Everything that is queued for a stream leaves in one write.
//!
//! Every limit of the transport is set here by hand; nothing is left to a library's default.
//!
//! Not here: what the frames mean (`wire`), which node to ask and when to retry (the SDK), who may
//! do what (`quorate-node`).

mod call;
mod close;
mod connection;
mod credentials;
mod endpoint;
mod error;
mod names;
mod outbox;
mod receive;
mod streams;
mod transport;

pub use close::CloseCode;
pub use connection::Connection;
pub use credentials::{CredentialError, Credentials, tls_client_config};
pub use endpoint::{Endpoint, EndpointError, Target};
pub use error::{CallError, ConnectError, LostReason, NotSent};
pub use names::{ClusterId, Role, client_san, cluster_san, node_san};
pub use outbox::{Outbox, OutboxError, Route};
pub use streams::{
    Half, ReadFailure, StreamError, Streams, accept_streams, acknowledge, open_streams, read_bulk,
    read_small, read_small_in_turns,
};
pub use transport::{TransportOptions, bind_socket, endpoint_config, transport_config};
