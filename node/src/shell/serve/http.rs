//! The HTTP port: `/metrics`, `/healthz`, `/readyz`.
//!
//! `/healthz` is 200 as long as the process answers. `/readyz` is 200 once the node listens and has
//! replayed, even alone; its body says for which vnodes it counts. Nothing here needs or changes
//! data, so the port speaks plain HTTP and is bound to loopback unless configured.
//!
//! Not here: data over HTTP, the console.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use quorate_ring::VnodeId;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::view::{NodeView, Readiness, ViewCell};
use crate::shell::metrics::Metrics;

/// Why the HTTP port does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The port cannot be bound.
    #[error("cannot listen for HTTP on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Accepting connections failed for good.
    #[error("the HTTP port failed: {0}")]
    Serve(std::io::Error),
}

/// A bound HTTP port that does not answer yet.
#[derive(Debug)]
pub struct HttpPort {
    listener: TcpListener,
}

/// What the port shows.
#[derive(Debug, Clone)]
pub struct Shown {
    /// State of the node.
    pub view: ViewCell,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
}

impl HttpPort {
    /// Binds `address`, so that a taken port is known before anything else is started.
    ///
    /// # Errors
    /// [`HttpError::Bind`] if the port is taken or may not be used.
    ///
    /// # Cancel safety
    /// Safe: nothing is bound if it is dropped.
    pub async fn bind(address: SocketAddr) -> Result<Self, HttpError> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| HttpError::Bind { address, source })?;
        Ok(Self { listener })
    }

    /// Answers until `stop` completes.
    ///
    /// # Errors
    /// [`HttpError::Serve`] if accepting fails for good.
    ///
    /// # Cancel safety
    /// Dropping it closes the port; answers under way are cut.
    pub async fn serve(
        self,
        shown: Shown,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), HttpError> {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .with_state(shown);
        axum::serve(self.listener, router)
            .with_graceful_shutdown(stop)
            .await
            .map_err(HttpError::Serve)
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let text = shown.metrics.render(&shown.view.newest());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn healthz(State(shown): State<Shown>) -> Response {
    let body = json!({
        "schema": "healthz/v1",
        "node": shown.view.newest().name,
        "alive": true,
    });
    reply(StatusCode::OK, &body)
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let (code, body) = readiness(&shown.view.newest());
    reply(code, &body)
}

fn readiness(view: &NodeView) -> (StatusCode, Value) {
    let (code, reason) = match &view.readiness {
        Readiness::Ready => (StatusCode::OK, None),
        Readiness::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, Some(reason)),
    };
    let ids = |vnodes: &[VnodeId]| vnodes.iter().map(|vnode| vnode.0).collect::<Vec<u16>>();
    let body = json!({
        "schema": "readyz/v1",
        "node": view.name,
        "ready": reason.is_none(),
        "reason": reason,
        "counts": reason.is_none() && view.vnodes_owned == view.vnodes_counting,
        "vnodes_owned": view.vnodes_owned.len(),
        "vnodes_counting": view.vnodes_counting.len(),
        "counting": ids(&view.vnodes_counting),
    });
    (code, body)
}

fn reply(code: StatusCode, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (code, kind, format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("open");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.expect("open");
        reply
    }

    #[tokio::test]
    async fn readiness_is_told_with_its_reason_and_the_vnodes_that_count() {
        let view = ViewCell::new(NodeView::starting("a"));
        let port = HttpPort::bind(([127, 0, 0, 1], 0).into())
            .await
            .expect("a free port");
        let address = port.listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let shown = Shown {
            view: view.clone(),
            metrics: Arc::new(Metrics::new("a")),
        };
        let ask_all = async {
            let before = ask(address, "/readyz").await;
            assert!(before.starts_with("HTTP/1.1 503"), "{before}");
            assert!(before.contains("being replayed"), "{before}");
            view.publish(NodeView {
                readiness: Readiness::Ready,
                vnodes_owned: vec![VnodeId(0), VnodeId(1)],
                vnodes_counting: vec![VnodeId(1)],
                ..NodeView::starting("a")
            });
            let after = ask(address, "/readyz").await;
            assert!(after.starts_with("HTTP/1.1 200"), "{after}");
            assert!(after.contains(r#""counts":false"#), "{after}");
            assert!(after.contains(r#""counting":[1]"#), "{after}");
            let health = ask(address, "/healthz").await;
            assert!(health.starts_with("HTTP/1.1 200"), "{health}");
            let metrics = ask(address, "/metrics").await;
            assert!(metrics.contains("quorate_ready{node=\"a\"} 1"), "{metrics}");
            let nothing = ask(address, "/other").await;
            assert!(nothing.starts_with("HTTP/1.1 404"), "{nothing}");
            stop.send(()).expect("the port still serves");
        };
        let served = port.serve(shown, async move {
            let _stopped = stopped.await;
        });
        let (served, ()) = tokio::join!(served, ask_all);
        served.expect("it stopped when it was told");
    }
}
