//! A request of the driver: from a JSON line to typed values.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use quorate_client::wire::BATCH_ITEMS_MAX;
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
    /// Of a batch; an item has only what concerns its key. The batch's `b64` and `kb64` are all its
    /// items'.
    items: Option<Vec<Raw>>,
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
    pub(super) levels: Levels,
    pub(super) deadline: Duration,
    pub(super) work: Work,
}

/// Levels of reads and writes; `None` is the keyspace's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    pub(super) read: Option<Level>,
    pub(super) write: Option<Level>,
}

/// One operation, or many that go out together.
#[derive(Debug)]
pub(super) enum Work {
    One(Item),
    Batch(Vec<Item>),
}

/// An operation on a key.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: Bytes,
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
const LATER: [&str; 7] = ["cas", "add", "cget", "lock", "renew", "unlock", "scan"];

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
    pub(super) fn check(mut raw: Raw, defaults: &Defaults) -> Result<Self, Value> {
        let id = std::mem::take(&mut raw.id);
        let fail =
            |Refusal { code, why }| json!({ "id": id, "t": "fail", "err": code, "why": why });
        let level = match &raw.lvl {
            Some(word) => word.parse::<LevelChoice>().map_err(|e| fail(invalid(e)))?,
            None => defaults.level,
        };
        let keyspace = raw.ks.take().unwrap_or_else(|| defaults.keyspace.clone());
        let deadline = raw.ms.map_or(defaults.deadline, Duration::from_millis);
        let work = work_of(raw).map_err(fail)?;
        // A word that says nothing of writes is wrong only where something is written.
        let (reads, writes) = match &work {
            Work::One(item) => (item.is_read(), !item.is_read()),
            Work::Batch(items) => (
                items.iter().any(Item::is_read),
                !items.iter().all(Item::is_read),
            ),
        };
        let read = reads.then(|| level.for_read()).transpose();
        let write = writes.then(|| level.for_write()).transpose();
        Ok(Self {
            levels: Levels {
                read: read.map_err(|e| fail(invalid(e)))?.flatten(),
                write: write.map_err(|e| fail(invalid(e)))?.flatten(),
            },
            keyspace,
            deadline,
            work,
            id,
        })
    }
}

impl Item {
    pub(super) const fn is_read(&self) -> bool {
        matches!(self.what, What::Get)
    }
}

/// Why a line is refused.
struct Refusal {
    code: &'static str,
    why: String,
}

fn invalid(why: impl ToString) -> Refusal {
    Refusal {
        code: "REQUEST_INVALID",
        why: why.to_string(),
    }
}

fn work_of(raw: Raw) -> Result<Work, Refusal> {
    if raw.f != "batch" {
        return item_of(raw).map(Work::One);
    }
    if raw.k.is_some() || raw.v.is_some() || raw.ctx.is_some() || raw.ttl.is_some() {
        return Err(invalid("keys and values of a batch are in its `items`"));
    }
    let items = raw.items.ok_or_else(|| invalid("`items` is missing"))?;
    let items = items.into_iter().map(|mut item| {
        item.b64 |= raw.b64;
        item.kb64 |= raw.kb64;
        if item.ks.is_some() || item.lvl.is_some() || item.ms.is_some() || !item.id.is_null() {
            return Err(invalid(
                "`id`, `ks`, `lvl` and `ms` are of the batch, not of an item",
            ));
        }
        item_of(item)
    });
    let items: Vec<Item> = items.collect::<Result<_, _>>()?;
    let mut keys = BTreeSet::new();
    if let Some(repeated) = items.iter().find(|item| !keys.insert(&item.key)) {
        // Across reads and writes too: which of the two should come first?
        return Err(Refusal {
            code: "BATCH_ITEM_REPEATED",
            why: format!("the key {} is named twice", repeated.key.escape_ascii()),
        });
    }
    if items.is_empty() || items.len() > BATCH_ITEMS_MAX {
        return Err(Refusal {
            code: "BATCH_TOO_LARGE",
            why: format!(
                "a batch has 1 to {BATCH_ITEMS_MAX} items, this one {}",
                items.len()
            ),
        });
    }
    Ok(Work::Batch(items))
}

fn item_of(raw: Raw) -> Result<Item, Refusal> {
    if raw.items.is_some() {
        return Err(invalid("only a batch has `items`"));
    }
    let of_ttl = |e: &dyn std::fmt::Display| Refusal {
        code: "TTL_INVALID",
        why: e.to_string(),
    };
    let ttl = match &raw.ttl {
        None => None,
        Some(RawTtl::Millis(millis)) => Some(Duration::from_millis(*millis)),
        Some(RawTtl::Text(text)) => Some(parse_duration(text).map_err(|e| of_ttl(&e))?),
    };
    if let Some(ttl) = ttl {
        Ttl::from_duration(ttl).map_err(|e| of_ttl(&e))?;
        if raw.f != "put" {
            return Err(invalid("only a put has a `ttl`"));
        }
    }
    let context = raw.ctx.as_deref().map(str::parse::<Context>).transpose();
    let context = context.map_err(|e| Refusal {
        code: "CONTEXT_INVALID",
        why: e.to_string(),
    })?;
    let key = raw.k.ok_or_else(|| invalid("`k` is missing"))?;
    let what = match raw.f.as_str() {
        "get" => What::Get,
        "put" => {
            let value = raw.v.ok_or_else(|| invalid("`v` is missing"))?;
            What::Put {
                value: bytes(value, raw.b64, "v")?,
                context,
                ttl,
            }
        }
        "del" => What::Delete { context },
        other => return Err(invalid(format!("there is no function `{other}`"))),
    };
    Ok(Item {
        key: bytes(key, raw.kb64, "k")?,
        b64: raw.b64,
        what,
    })
}

fn bytes(text: String, b64: bool, name: &str) -> Result<Bytes, Refusal> {
    if b64 {
        let decoded = decode(&text);
        let decoded = decoded.ok_or_else(|| invalid(format!("`{name}` is not base64")))?;
        Ok(decoded.into())
    } else {
        Ok(text.into_bytes().into())
    }
}
