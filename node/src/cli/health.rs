//! `quorate health`: one word and its reasons, for scripts; `--wait` until all is well.

use std::time::Duration;

use quorate_client::wire::Code;
use serde_json::json;

use super::args::{Global, HealthArgs};
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{note, print, print_json};
use super::session::connect;
use super::signals::{StopSignals, unless_stopped};
use super::status::{Health, health_of};

/// Between two looks while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Asks every node, once or until all is well.
///
/// # Errors
/// A [`Problem`] if no node can be reached and nothing is to be waited for, or the certificate has
/// not the role.
pub(super) async fn run(args: HealthArgs, global: Global) -> Result<Exit, Problem> {
    let mut signals = StopSignals::listen()?;
    let interrupted = || Problem::new(Exit::Failed, "INTERRUPTED", "interrupted");
    let looking = async {
        if args.wait {
            let mut last = None;
            let waited = tokio::time::timeout(args.timeout, wait(&global, &mut last)).await;
            return match waited {
                Ok(health) => Ok((health?, false)),
                Err(_) => {
                    let unheard = || Health::of_reason("no node has answered");
                    Ok((last.unwrap_or_else(unheard), true))
                }
            };
        }
        match look(&global).await {
            // Nobody answers: that is what was asked, and the answer.
            Err(problem) if problem.code == Code::ConnectFailed.name() => {
                Ok((Health::of_reason(&problem.what), false))
            }
            looked => Ok::<_, Problem>((looked?, false)),
        }
    };
    let looked = unless_stopped(&mut signals, looking).await;
    let (health, timed_out) = looked.ok_or_else(interrupted)??;
    let healthy = health.is_healthy() && !timed_out;
    if is_json(global.output) {
        print_json(&json!({
            "schema": "health/v1",
            "healthy": healthy,
            "timed_out": timed_out,
            "reasons": health.reasons,
        }))?;
    } else {
        let mut text = if healthy { "healthy\n" } else { "degraded\n" }.to_owned();
        for reason in &health.reasons {
            text.push_str(&format!("  {reason}\n"));
        }
        print(text.as_bytes())?;
        if timed_out {
            note("the time for waiting is over; `quorate status` shows each node");
        }
    }
    Ok(match (healthy, timed_out) {
        (true, _) => Exit::Ok,
        (false, true) => Exit::TimedOut,
        (false, false) => Exit::Degraded,
    })
}

async fn look(global: &Global) -> Result<Health, Problem> {
    let client = connect(global).await?;
    let health = health_of(&client).await;
    client.close().await;
    health
}

/// Looks again and again; a cluster that cannot be reached yet is waited for too.
/// `last` is what was seen last.
async fn wait(global: &Global, last: &mut Option<Health>) -> Result<Health, Problem> {
    loop {
        match look(global).await {
            Ok(health) if health.is_healthy() => return Ok(health),
            Err(problem) if problem.exit == Exit::Refused || problem.exit == Exit::Usage => {
                return Err(problem);
            }
            Ok(health) => *last = Some(health),
            Err(problem) => *last = Some(Health::of_reason(&problem.what)),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
