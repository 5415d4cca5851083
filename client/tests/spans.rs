//! What a subscriber of `tracing` sees of a call: one span, its attempts, how it ended.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_client::testing::{FakeCluster, Fault, block_on};
use quorate_client::{Code, Level};
use tracing_subscriber::fmt::format::FmtSpan;

/// Text that a subscriber wrote.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_call_is_a_span_with_its_attempts_and_its_outcome() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        block_on(async {
            let cluster = FakeCluster::new();
            let users = cluster.client(1).keyspace("default");
            cluster.break_all(Some(Fault::Refuse(Code::NotReady)));
            let put = users.put_blind("alice", "1").level(Level::All);
            put.attempts_max(2).await.expect_err("refused twice");
            cluster.break_all(None);
            users.get("alice").await?;
            Ok(())
        });
    });
    let text = log.text();
    for part in [
        "quorate{operation=put keyspace=\"default\" level=all outcome=NotApplied attempts=2}",
        "attempt ended",
        "NotReady",
        "quorate{operation=get keyspace=\"default\" level=quorum outcome=\"ok\"}",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert_eq!(text.matches("attempt ended").count(), 2, "{text}");
}
