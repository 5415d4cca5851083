//! The few things that the command line asks of the operating system.

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use super::exit::{Exit, Problem};

/// Variable by which `dev` tells its children who they end with.
pub(super) const PARENT_VARIABLE: &str = "QUORATE_DEV_PARENT";

/// If this process was started by `dev`, ends it when `dev` ends, however that happens.
///
/// # Errors
/// A [`Problem`] if `dev` is gone already or the system refuses.
pub(super) fn end_with_parent() -> Result<(), Problem> {
    let Ok(parent) = std::env::var(PARENT_VARIABLE) else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)?;
    // The parent may have ended before the signal was asked for.
    let present = getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if present.as_deref() == Some(parent.as_str()) {
        Ok(())
    } else {
        Err(Problem::new(
            Exit::Failed,
            "PARENT_GONE",
            "the `quorate dev` that started this is gone",
        ))
    }
}

/// Asks process `pid` to stop in order; a process that is gone needs no asking.
pub(super) fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _gone = kill_process(pid, Signal::TERM);
    }
}

/// `N` bytes of randomness from the operating system.
pub(super) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(
        clippy::disallowed_methods,
        reason = "ids and keys of a new cluster must not be repeatable"
    )]
    rand::Rng::fill_bytes(&mut rand::rng(), &mut bytes);
    bytes
}

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "commands run outside of any node; validity of certificates is wall time"
)]
pub(super) fn wall_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// A moment to measure the time of a whole command from.
#[expect(
    clippy::disallowed_methods,
    reason = "commands run outside of any node; nothing is decided by this but what is shown"
)]
pub(super) fn stopwatch() -> std::time::Instant {
    std::time::Instant::now()
}
