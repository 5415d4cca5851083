//! Takes processor time away from nodes, so that a tool on the same machine can ask for several
//! times what they can do: it must be able to start more than they can answer.
//!
//! One thread per processor of the nodes spins for a part of every short window at the highest
//! priority. What is left comes in slices far shorter than a request takes, as from a slower
//! processor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::setpriority_process;
use rustix::thread::gettid;

use crate::clock::Clock;
use crate::cores::Cores;

/// Of a window the thread spins for a part.
const WINDOW: Duration = Duration::from_millis(2);

/// The highest priority of an ordinary thread.
const PRIORITY: i32 = -20;

/// Threads that spin until this is dropped.
#[derive(Debug)]
pub struct Ballast {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Ballast {
    /// Leaves `share` of the nodes' processors to them, 0 to 1; nothing is taken with 1.
    ///
    /// # Errors
    /// If threads of high priority are not allowed: the nodes would be left with more.
    pub fn start(cores: Cores, share: f64, clock: Clock) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let share = share.clamp(0.01, 1.0);
        let count = if share < 1.0 { cores.counts().0 } else { 0 };
        let (started, heard) = std::sync::mpsc::channel();
        let spin = |_| {
            let (stop, started) = (Arc::clone(&stop), started.clone());
            spawn(move || {
                let ready = cores.enter_nodes().and_then(|()| {
                    setpriority_process(Some(gettid()), PRIORITY)
                        .context("taking processor time from the nodes needs root")
                });
                let is_ready = ready.is_ok();
                // Who started it waits for this.
                drop(started.send(ready));
                while is_ready && !stop.load(Ordering::Relaxed) {
                    let until = clock.now() + WINDOW.mul_f64(1.0 - share);
                    while clock.now() < until {
                        std::hint::spin_loop();
                    }
                    rest(WINDOW.mul_f64(share));
                }
            })
        };
        let threads = (0..count).map(spin).collect();
        let ballast = Self { stop, threads };
        for _ in 0..count {
            heard.recv().context("a thread ended")??;
        }
        Ok(ballast)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has told so itself.
            drop(thread.join());
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "it does nothing but spin, and who started it joins it"
)]
fn spawn(spin: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(spin)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread outside of any runtime gives the processor back for a moment"
)]
fn rest(span: Duration) {
    std::thread::sleep(span);
}
