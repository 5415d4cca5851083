//! What a recorder of metrics sees of a client's operations.

use metrics_exporter_prometheus::PrometheusBuilder;
use quorate_client::testing::{FakeCluster, Fault, block_on};

#[test]
fn operations_are_counted_by_their_outcome_and_requests_by_attempt() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let cluster = FakeCluster::new();
    let client = metrics::with_local_recorder(&recorder, || cluster.client(1));
    block_on(async {
        let users = client.keyspace("default");
        users.put_blind("a", "1").await.expect("all nodes are up");
        users.get("a").await.expect("all nodes are up");
        cluster.break_all(Some(Fault::Down));
        let put = users.put_blind("a", "2").attempts_max(2);
        put.await.expect_err("no node is up");
        Ok(())
    });
    let text = handle.render();
    for line in [
        r#"quorate_client_operations_total{operation="put",outcome="ok"} 1"#,
        r#"quorate_client_operations_total{operation="put",outcome="not_applied"} 1"#,
        r#"quorate_client_operations_total{operation="put",outcome="unknown"} 0"#,
        r#"quorate_client_operations_total{operation="get",outcome="ok"} 1"#,
        r#"quorate_client_operation_seconds_count{operation="get"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(
        text.contains("quorate_client_requests_total 4"),
        "one put, one get, one put that was sent twice:\n{text}"
    );
}
