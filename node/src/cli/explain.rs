//! `explain`: what an error code means and what to do about it. Asks no node.
//!
//! Not here: the codes themselves, their texts and numbers (`quorate_client::Code`).

use quorate_client::Code;
use serde_json::{Value, json};

use super::args::ExplainArgs;
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{Format, print, print_json};
use crate::config::nearest::nearest;

/// Explains one code, or lists all of them.
///
/// # Errors
/// A usage [`Problem`] if there is no such code; it names the nearest one.
pub(super) fn run(args: &ExplainArgs, format: Format) -> Result<Exit, Problem> {
    let Some(asked) = &args.code else {
        let all: Vec<Value> = Code::ALL.iter().map(|code| document(*code)).collect();
        if is_json(format) {
            print_json(&json!({ "schema": "codes/v1", "codes": all }))?;
        } else {
            let lines = Code::ALL.iter().map(|code| line(*code));
            print(lines.collect::<String>().as_bytes())?;
        }
        return Ok(Exit::Ok);
    };
    let by_number = || {
        let code = Code::from(asked.parse::<u16>().ok()?);
        Code::ALL.contains(&code).then_some(code)
    };
    let Some(code) = Code::of_name(asked).or_else(by_number) else {
        return Err(unknown(asked));
    };
    if is_json(format) {
        let mut document = document(code);
        if let Some(fields) = document.as_object_mut() {
            fields.insert("schema".to_owned(), json!("code/v1"));
        }
        print_json(&document)?;
    } else {
        let (number, advice) = (u16::from(code), code.advice());
        let text = format!(
            "{code} ({number})\n  {}\n  What to do: {advice}.\n",
            code.meaning()
        );
        print(text.as_bytes())?;
    }
    Ok(Exit::Ok)
}

fn line(code: Code) -> String {
    format!("{:<22} {}\n", code.name(), code.meaning())
}

fn document(code: Code) -> Value {
    json!({
        "code": code.name(),
        "number": u16::from(code),
        "meaning": code.meaning(),
        "advice": code.advice(),
    })
}

fn unknown(asked: &str) -> Problem {
    let names = Code::ALL.iter().map(|code| code.name());
    let near = nearest(&asked.to_uppercase(), names);
    let near = near.map_or_else(String::new, |name| format!("; did you mean {name}?"));
    let list = "`quorate explain` lists all codes";
    Problem::usage(format!("there is no error code `{asked}`{near}; {list}"))
}
