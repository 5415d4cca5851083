//! One GET of a node's `/metrics`, and the lines of a family in its text.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Time for a whole scrape.
const SCRAPE_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// The text of a scrape of the HTTP port at `address`.
pub(super) async fn metrics(address: &str) -> Result<String> {
    let scrape = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        let mut stream = stream.take(ANSWER_BYTES_MAX);
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(SCRAPE_TIME_MAX, scrape).await;
    let answer = answer.context("no answer in time")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1);
    ensure!(status == Some("200"), "the answer is {head}");
    Ok(body.to_owned())
}

/// The values of `family`, each with its `label`, in the order of the text. Lines that are not
/// understood are none of the family's.
pub(super) fn values(text: &str, family: &str, label: &str) -> Vec<(String, f64)> {
    let value = |line: &str| {
        let labels_and_value = line.strip_prefix(family)?.strip_prefix('{')?;
        let (labels, value) = labels_and_value.rsplit_once('}')?;
        let mut labels = labels.split(',').filter_map(|one| one.split_once('='));
        let (_, name) = labels.find(|(key, _)| *key == label)?;
        Some((
            name.trim_matches('"').to_owned(),
            value.trim().parse().ok()?,
        ))
    };
    text.lines().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_families_and_broken_ones_are_left_out() {
        let text = "# HELP a_total x\na_total{node=\"n\",stage=\"one\"} 1.5\n\
                    a_total_more{stage=\"two\"} 2\na_total{stage=\"three\"} x\n\
                    a_total{node=\"n\"} 4\na_total 5\na_total{stage=\"six\"} 6 \n";
        let want = [("one".to_owned(), 1.5), ("six".to_owned(), 6.0)];
        assert_eq!(values(text, "a_total", "stage"), want);
    }
}
