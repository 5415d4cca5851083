//! A ramp: rates from low to high, each held for a while, until the cluster does not keep up.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;

use super::OpenLoop;
use super::record::Record;
use super::report::Verdict;

/// Rates from `from` to `to` in equal steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ramp {
    /// The first rate, per second.
    pub from: f64,
    /// The last rate.
    pub to: f64,
    /// How many rates there are, at least 2.
    pub steps: u32,
}

/// Why a text is no ramp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no ramp: it has the form FROM..TO or FROM..TO/STEPS, with 0 < FROM < TO")]
pub struct RampError(String);

impl FromStr for Ramp {
    type Err = RampError;

    fn from_str(text: &str) -> Result<Self, RampError> {
        let error = || RampError(text.to_owned());
        let (range, steps) = text.split_once('/').unwrap_or((text, "10"));
        let (from, to) = range.split_once("..").ok_or_else(error)?;
        let rate = |text: &str| text.parse::<f64>().ok().filter(|rate| rate.is_finite());
        let ramp = Self {
            from: rate(from).ok_or_else(error)?,
            to: rate(to).ok_or_else(error)?,
            steps: steps.parse().map_err(|_| error())?,
        };
        let is_good = 0.0 < ramp.from && ramp.from < ramp.to && (2..=1_000).contains(&ramp.steps);
        is_good.then_some(ramp).ok_or_else(error)
    }
}

impl Ramp {
    /// Its rates.
    pub fn rates(self) -> impl Iterator<Item = f64> {
        let width = (self.to - self.from) / f64::from(self.steps - 1);
        (0..self.steps).map(move |step| self.from + width * f64::from(step))
    }
}

/// One rate and what came of it.
#[derive(Debug)]
pub struct Step {
    /// The rate that was asked, per second.
    pub rate: f64,
    /// Operations per second that were done.
    pub done: f64,
    /// What came of it.
    pub record: Record,
}

/// What a ramp showed.
#[derive(Debug)]
pub struct Knee {
    /// Every step, in order.
    pub steps: Vec<Step>,
    /// The highest rate of which nearly all was done; `None` if none was.
    pub rate: Option<f64>,
    /// What verifying found at the end.
    pub verdict: Option<Verdict>,
}

/// A step is kept up with if this part of it was done.
const KEPT_UP: f64 = 0.99;

/// Climbs until a step is not kept up with.
///
/// # Errors
/// As [`OpenLoop::run`].
///
/// # Cancel safety
/// As [`OpenLoop::run`].
pub async fn climb(load: &mut OpenLoop, ramp: Ramp, hold: Duration) -> Result<Knee> {
    let mut knee = Knee {
        steps: Vec::new(),
        rate: None,
        verdict: None,
    };
    for rate in ramp.rates() {
        let label = format!("{rate:.0} operations/s");
        let record = load.run(&label, rate, hold).await?;
        let done = record.count(super::End::is_done) as f64;
        let all = record.count(|_| true) as f64;
        let keeps_up = done >= KEPT_UP * all;
        let done = done / hold.as_secs_f64();
        knee.steps.push(Step { rate, done, record });
        if !keeps_up {
            break;
        }
        knee.rate = Some(rate);
    }
    Ok(knee)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_goes_from_its_first_rate_to_its_last() {
        let ramp: Ramp = "100..500/5".parse().expect("well formed");
        let rates: Vec<f64> = ramp.rates().collect();
        assert_eq!(rates, [100.0, 200.0, 300.0, 400.0, 500.0]);
        for text in ["", "5", "5..1", "0..10", "1..x", "1..2/1", "1..inf"] {
            assert!(text.parse::<Ramp>().is_err(), "{text}");
        }
    }
}
