//! A request of the driver: from a JSON line to typed values.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Context, Level};
use quorate_ring::Ttl;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::level::LevelChoice;
use super::super::output::decode;
use crate::config::units::parse_duration;

/// What a request that does not say otherwise has.
#[derive(Debug, Clone)]
pub(super) struct Defaults {
    pub(super) keyspace: String,
    pub(super) level: LevelChoice,
    pub(super) deadline: Duration,
}

/// A line as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    #[serde(default)]
    id: Value,
    f: String,
    ks: Option<String>,
    k: Option<String>,
    v: Option<String>,
    ctx: Option<String>,
    lvl: Option<String>,
    ms: Option<u64>,
    /// Milliseconds, or a text as `--ttl` takes it.
    ttl: Option<RawTtl>,
    #[serde(default)]
    b64: bool,
    #[serde(default)]
    kb64: bool,
}

/// A TTL as it is written.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawTtl {
    Millis(u64),
    Text(String),
}

/// A request that can be carried out.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: Value,
    pub(super) keyspace: String,
    pub(super) key: Bytes,
    /// `None` is the keyspace's own.
    pub(super) level: Option<Level>,
    pub(super) deadline: Duration,
    pub(super) b64: bool,
    pub(super) what: What,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum What {
    Get,
    Put {
        value: Bytes,
        context: Option<Context>,
        ttl: Option<Duration>,
    },
    Delete {
        context: Option<Context>,
    },
}

/// Functions that are named in the contract and come later.
const LATER: [&str; 8] = [
    "cas", "add", "cget", "lock", "renew", "unlock", "batch", "scan",
];

/// Refuses a function of later work.
///
/// # Errors
/// The reply, under the id of the request.
pub(super) fn refuse_later(fields: &Map<String, Value>, id: &Value) -> Result<(), Value> {
    let function = fields.get("f").and_then(Value::as_str);
    match function.filter(|function| LATER.contains(function)) {
        Some(function) => {
            let why = format!("`{function}` comes with later work");
            Err(json!({ "id": id, "t": "fail", "err": "NOT_YET", "why": why }))
        }
        None => Ok(()),
    }
}

impl Request {
    /// Checks a line.
    ///
    /// # Errors
    /// The reply, under the id of the request.
    pub(super) fn check(raw: Raw, defaults: &Defaults) -> Result<Self, Value> {
        let id = raw.id.clone();
        let fail =
            |code: &str, why: String| json!({ "id": id, "t": "fail", "err": code, "why": why });
        let invalid = |why: String| fail("REQUEST_INVALID", why);
        let ttl = match &raw.ttl {
            None => None,
            Some(RawTtl::Millis(millis)) => Some(Duration::from_millis(*millis)),
            Some(RawTtl::Text(text)) => {
                Some(parse_duration(text).map_err(|e| fail("TTL_INVALID", e.to_string()))?)
            }
        };
        if let Some(ttl) = ttl {
            let checked = Ttl::from_duration(ttl);
            checked.map_err(|e| fail("TTL_INVALID", e.to_string()))?;
            if raw.f != "put" {
                return Err(invalid("only a put has a `ttl`".to_owned()));
            }
        }
        let level = match &raw.lvl {
            Some(word) => word.parse().map_err(|e| invalid(format!("{e}")))?,
            None => defaults.level,
        };
        let context = match &raw.ctx {
            Some(text) => Some(
                text.parse::<Context>()
                    .map_err(|e| fail("CONTEXT_INVALID", e.to_string()))?,
            ),
            None => None,
        };
        let key = raw.k.ok_or_else(|| invalid("`k` is missing".to_owned()))?;
        let bytes = |text: String, b64: bool, name: &str| {
            if b64 {
                let decoded = decode(&text);
                decoded.ok_or_else(|| invalid(format!("`{name}` is not base64")))
            } else {
                Ok(text.into_bytes())
            }
        };
        let what = match raw.f.as_str() {
            "get" => What::Get,
            "put" => {
                let value = raw.v.ok_or_else(|| invalid("`v` is missing".to_owned()))?;
                What::Put {
                    value: bytes(value, raw.b64, "v")?.into(),
                    context,
                    ttl,
                }
            }
            "del" => What::Delete { context },
            other => return Err(invalid(format!("there is no function `{other}`"))),
        };
        let level = match what {
            What::Get => level.for_read(),
            What::Put { .. } | What::Delete { .. } => level.for_write(),
        };
        Ok(Self {
            keyspace: raw.ks.unwrap_or_else(|| defaults.keyspace.clone()),
            key: bytes(key, raw.kb64, "k")?.into(),
            level: level.map_err(|e| invalid(e.to_string()))?,
            deadline: raw.ms.map_or(defaults.deadline, Duration::from_millis),
            b64: raw.b64,
            what,
            id: raw.id,
        })
    }
}
