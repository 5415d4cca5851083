//! `quorate driver`: one client on standard input and output, a JSON line per request and reply.
//!
//! Many requests may be in flight; replies come as they end. The end of input waits for them.

mod perform;
mod request;

use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::args::{DriverArgs, Global};
use super::events::{Event, Events};
use super::exit::{Exit, Problem};
use super::lines::{self, Line};
use super::output::print;
use super::session::connect;
use super::signals::{StopSignals, unless_stopped};
use request::{Defaults, Request};

/// Requests in flight; further lines wait in the input.
const IN_FLIGHT_MAX: usize = 1024;

/// Serves requests until the input ends.
///
/// # Errors
/// A [`Problem`] if no node can be reached at the start, or the output is closed.
pub(super) async fn run(args: DriverArgs, global: Global) -> Result<Exit, Problem> {
    let mut signals = StopSignals::listen()?;
    let interrupted = || Problem::new(Exit::Failed, "INTERRUPTED", "interrupted");
    let client = unless_stopped(&mut signals, connect(&global)).await;
    let client = client.ok_or_else(interrupted)??;
    let defaults = Defaults {
        keyspace: args.data.keyspace,
        level: args.data.consistency.unwrap_or_default(),
        deadline: args.data.deadline,
    };
    let mut events = Events {
        operations: JoinSet::new(),
        lines: Some(lines::of_stdin()?),
        signals,
        tick: None,
    };
    loop {
        let wants_line = events.operations.len() < IN_FLIGHT_MAX;
        match events.next(wants_line).await? {
            Event::Done(reply) => tell(&reply)?,
            Event::Line(line) => match read(&line, &defaults) {
                Ok(Some(request)) => {
                    events
                        .operations
                        .spawn(perform::perform(client.clone(), request));
                }
                Ok(None) => {}
                Err(reply) => tell(&reply)?,
            },
            Event::LinesEnded(error) => {
                if let Some(error) = error {
                    return Err(error.into());
                }
            }
            Event::Stop => {
                let problem = interrupted();
                let left = events.operations.len();
                return Err(problem.because(format!("{left} requests were in flight")));
            }
            Event::Tick => {}
        }
        if events.lines.is_none() && events.operations.is_empty() {
            return Ok(Exit::Ok);
        }
    }
}

fn tell(reply: &Value) -> Result<(), Problem> {
    print(format!("{reply}\n").as_bytes())
}

/// The request of a line; a blank line is none.
///
/// # Errors
/// The reply to a line that cannot be used.
fn read(line: &Line, defaults: &Defaults) -> Result<Option<Request>, Value> {
    let unreadable = |why: String| json!({ "id": null, "t": "fail", "err": "LINE_INVALID", "line": line.number, "why": why });
    let Some(text) = &line.text else {
        return Err(unreadable("the line is too long".to_owned()));
    };
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    let fields: Map<String, Value> =
        serde_json::from_slice(text).map_err(|e| unreadable(e.to_string()))?;
    let id = fields.get("id").cloned().unwrap_or_default();
    if !is_exact(&id) {
        return Err(unreadable(
            "`id` cannot be given back exactly: use a string or an integer of 64 bits".to_owned(),
        ));
    }
    // What comes later may have fields of other types, so its function is looked at first.
    request::refuse_later(&fields, &id)?;
    let raw = serde_json::from_slice(text).map_err(|e| {
        json!({ "id": id, "t": "fail", "err": "LINE_INVALID", "line": line.number, "why": e.to_string() })
    })?;
    Request::check(raw, defaults).map(Some)
}

/// Whether the value is printed as it was read; a number that is no integer may not be.
fn is_exact(id: &Value) -> bool {
    match id {
        Value::Number(number) => !number.is_f64(),
        Value::Array(all) => all.iter().all(is_exact),
        Value::Object(all) => all.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::request::{What, Work};
    use super::*;

    fn read_text(text: &str) -> Result<Option<Request>, Value> {
        let line = Line {
            number: 4,
            end: 0,
            text: Some(text.as_bytes().to_vec()),
        };
        let defaults = Defaults {
            keyspace: "default".to_owned(),
            level: "quorum".parse().expect("a level"),
            deadline: Duration::from_secs(2),
        };
        read(&line, &defaults)
    }

    #[test]
    fn a_line_that_cannot_be_read_is_answered_with_its_number() {
        for text in [
            "{\"id\":7,",
            "[]",
            "7",
            r#"{"id":12345678901234567890123,"f":"get","k":"a"}"#,
            r#"{"id":[1.10],"f":"get","k":"a"}"#,
            r#"{"id":1e400,"f":"get","k":"a"}"#,
        ] {
            let reply = read_text(text).expect_err(text);
            assert_eq!(
                (&reply["id"], &reply["t"]),
                (&Value::Null, &json!("fail")),
                "{reply}"
            );
            assert_eq!(reply["line"], json!(4));
        }
    }

    #[test]
    fn a_request_that_cannot_be_is_answered_under_its_id() {
        let cases = [
            (r#"{"id":7,"f":"cas","k":"a"}"#, "NOT_YET"),
            (r#"{"id":7,"f":"add","v":1}"#, "NOT_YET"),
            (
                r#"{"id":7,"f":"put","k":"a","v":"b","ttl":"soon"}"#,
                "TTL_INVALID",
            ),
            (
                r#"{"id":7,"f":"put","k":"a","v":"b","ttl":0}"#,
                "TTL_INVALID",
            ),
            (
                r#"{"id":7,"f":"put","k":"a","v":"b","ttl":"3651d"}"#,
                "TTL_INVALID",
            ),
            (
                r#"{"id":7,"f":"del","k":"a","ttl":"5s"}"#,
                "REQUEST_INVALID",
            ),
            (
                r#"{"id":7,"f":"put","k":"a","v":"b","cxt":"x"}"#,
                "LINE_INVALID",
            ),
            (r#"{"id":7,"f":"batch"}"#, "REQUEST_INVALID"),
            (r#"{"id":7,"f":"batch","items":[]}"#, "BATCH_TOO_LARGE"),
            (
                r#"{"id":7,"f":"batch","k":"a","items":[{"f":"get","k":"a"}]}"#,
                "REQUEST_INVALID",
            ),
            (
                r#"{"id":7,"f":"batch","items":[{"f":"get","k":"a","lvl":"one"}]}"#,
                "REQUEST_INVALID",
            ),
            (
                r#"{"id":7,"f":"batch","items":[{"f":"batch","items":[]}]}"#,
                "REQUEST_INVALID",
            ),
            (
                r#"{"id":7,"f":"batch","items":[{"f":"get","k":"a"},{"f":"del","k":"a"}]}"#,
                "BATCH_ITEM_REPEATED",
            ),
            (
                r#"{"id":7,"f":"batch","lvl":"w=2","items":[{"f":"get","k":"a"}]}"#,
                "REQUEST_INVALID",
            ),
            (r#"{"id":7}"#, "LINE_INVALID"),
            (r#"{"id":7,"f":"get","k":5}"#, "LINE_INVALID"),
            (r#"{"id":7,"f":"dance","k":"a"}"#, "REQUEST_INVALID"),
            (r#"{"id":7,"f":"put","k":"a"}"#, "REQUEST_INVALID"),
            (
                r#"{"id":7,"f":"get","k":"a","lvl":"most"}"#,
                "REQUEST_INVALID",
            ),
            (
                r#"{"id":7,"f":"get","k":"a","lvl":"w=2"}"#,
                "REQUEST_INVALID",
            ),
            (
                r#"{"id":7,"f":"get","k":"a","lvl":"each-quorum"}"#,
                "REQUEST_INVALID",
            ),
            (
                r#"{"id":7,"f":"put","k":"a","v":"!","b64":true}"#,
                "REQUEST_INVALID",
            ),
            (
                r#"{"id":7,"f":"put","k":"a","v":"b","ctx":"!"}"#,
                "CONTEXT_INVALID",
            ),
        ];
        for (text, code) in cases {
            let reply = read_text(text).expect_err(text);
            assert_eq!(
                (&reply["id"], &reply["err"]),
                (&json!(7), &json!(code)),
                "{reply}"
            );
        }
    }

    #[test]
    fn blank_lines_ask_nothing_and_good_ones_are_taken() {
        assert!(matches!(read_text("  "), Ok(None)));
        for text in [
            r#"{"id":"x","f":"get","k":"a"}"#,
            r#"{"id":7,"f":"put","ks":"default","k":"a","v":"b","ctx":null,"lvl":"quorum","ms":500}"#,
            r#"{"id":7,"f":"del","k":"/w==","kb64":true,"lvl":"w=3"}"#,
            r#"{"id":7,"f":"put","ks":"lww","k":"a","v":"b","ttl":"5s"}"#,
            r#"{"id":7,"f":"put","ks":"lww","k":"a","v":"b","ttl":5000}"#,
            r#"{"id":7,"f":"batch","items":[{"f":"get","k":"a"},{"f":"put","k":"b","v":"c","ttl":5}]}"#,
        ] {
            assert!(matches!(read_text(text), Ok(Some(_))), "{text}");
        }
    }

    #[test]
    fn what_a_batch_says_of_base64_is_said_of_its_items() {
        let text =
            r#"{"f":"batch","b64":true,"kb64":true,"items":[{"f":"put","k":"/w==","v":"/g=="}]}"#;
        let Ok(Some(Request {
            work: Work::Batch(items),
            ..
        })) = read_text(text)
        else {
            panic!("a batch");
        };
        assert_eq!(items[0].key, [0xff][..]);
        assert!(matches!(&items[0].what, What::Put { value, .. } if *value == [0xfe][..]));
        let bad = r#"{"f":"batch","kb64":true,"items":[{"f":"get","k":"!"}]}"#;
        assert!(read_text(bad).is_err());
    }
}
