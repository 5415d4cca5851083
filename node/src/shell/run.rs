//! The real node, provisional: only the HTTP port runs, and it says that nothing serves.

use std::sync::Arc;

use super::metrics::Metrics;
use super::node_error::NodeError;
use super::serve::http::{HttpPort, Shown};
use super::serve::view::{NodeView, ViewCell};
use crate::config::NodeConfig;

/// Runs the node until `stop` completes.
///
/// # Errors
/// [`NodeError`] if it cannot serve.
///
/// # Cancel safety
/// Dropping it stops the node as a crash would.
pub async fn run(
    config: NodeConfig,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), NodeError> {
    let port = HttpPort::bind(config.http_listen).await?;
    let shown = Shown {
        view: ViewCell::new(NodeView::starting(config.name.as_str())),
        metrics: Arc::new(Metrics::new(config.name.as_str())),
    };
    Ok(port.serve(shown, stop).await?)
}
