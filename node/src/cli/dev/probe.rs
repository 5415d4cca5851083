//! Asks a node over HTTP whether it counts for reads.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::layout::DevNode;

/// A node on loopback that takes longer is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// Longest answer that is read; one with every vnode is some 200 KiB.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Whether every node counts for all its vnodes.
pub(super) async fn all_count(nodes: &[DevNode]) -> bool {
    for node in nodes {
        let answer = timeout(ANSWER_TIMEOUT, ask(node.http)).await;
        if !matches!(answer, Ok(Ok(true))) {
            return false;
        }
    }
    true
}

async fn ask(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    Ok(counts(&String::from_utf8_lossy(&answer)))
}

fn counts(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return false;
    };
    let body: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let counts = body.and_then(|body| body.get("counts")?.as_bool());
    head.starts_with("HTTP/1.1 200") && counts == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_counts_when_it_says_so_with_200() {
        let cases = [
            ("HTTP/1.1 200 OK\r\n\r\n{\"counts\":true}", true),
            ("HTTP/1.1 200 OK\r\n\r\n{\"counts\":false}", false),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"counts\":true}",
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nyes", false),
            ("", false),
        ];
        for (answer, want) in cases {
            assert_eq!(counts(answer), want, "{answer}");
        }
    }
}
