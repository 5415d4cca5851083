//! `quorate scan`: the records of a keyspace or a range in key order, one JSON line each, as
//! `import` takes them.
//!
//! Interrupted, or failed half way, it tells where it stood; `--resume` goes on there.

use quorate_client::{ScanPages, ScanPosition, ScannedRecord};
use serde_json::{Map, Value, json};

use super::args::{Global, ScanArgs};
use super::data::{bytes_of, scan_level};
use super::exit::{Exit, Problem};
use super::output::{print, texts, with_key};
use super::session::{connect, unread};
use super::signals::{StopSignals, unless_stopped};

/// Prints the records.
///
/// # Errors
/// A [`Problem`] if the range is refused or the level could not be met.
pub(super) async fn run(args: ScanArgs, global: Global) -> Result<Exit, Problem> {
    let level = scan_level(&args.data)?;
    let resume = args.resume.as_deref().map(str::parse::<ScanPosition>);
    let resume = resume
        .transpose()
        .map_err(|error| Problem::new(Exit::Failed, "SCAN_TOKEN_INVALID", error.to_string()))?;
    let mut signals = StopSignals::listen()?;
    let client = connect(&global).await?;
    let mut scan = client.keyspace(&args.data.keyspace).scan().level(level);
    scan = scan.deadline(args.data.deadline);
    if let Some(prefix) = args.prefix {
        scan = scan.prefix(bytes_of(prefix));
    }
    if let Some(start) = args.start {
        scan = scan.start_at(bytes_of(start));
    }
    if let Some(end) = args.end {
        scan = scan.end_before(bytes_of(end));
    }
    if let Some(limit) = args.limit {
        scan = scan.limit(limit);
    }
    if let Some(position) = resume {
        scan = scan.resume(position);
    }
    let mut pages = scan.pages();
    let mut begun = false;
    loop {
        let page = unless_stopped(&mut signals, pages.next_page()).await;
        let interrupted = || Problem::new(Exit::Failed, "INTERRUPTED", "interrupted");
        let page = page
            .ok_or_else(interrupted)
            .and_then(|page| page.map_err(|error| unread(&error)));
        match page {
            Ok(Some(page)) => {
                print(&lines(&page.records))?;
                begun = true;
            }
            Ok(None) => return Ok(Exit::Ok),
            Err(problem) if begun => return Err(go_on(problem, &pages)),
            Err(problem) => return Err(problem),
        }
    }
}

fn go_on(problem: Problem, pages: &ScanPages) -> Problem {
    match pages.position() {
        Some(position) => problem.then(format!("go on with --resume {position}")),
        None => problem,
    }
}

pub(super) fn lines(records: &[ScannedRecord]) -> Vec<u8> {
    let mut lines = Vec::new();
    for ScannedRecord { key, values } in records {
        let mut document = Map::new();
        with_key(&mut document, key);
        let (values, b64) = texts(values.iter().map(|value| &value[..]));
        match values.as_slice() {
            [value] => document.insert("value".to_owned(), json!(value)),
            siblings => document.insert("siblings".to_owned(), json!(siblings)),
        };
        if b64 {
            document.insert("b64".to_owned(), json!(true));
        }
        lines.extend_from_slice(Value::Object(document).to_string().as_bytes());
        lines.push(b'\n');
    }
    lines
}
