//! Threads of a real node's store: one for each loop, because [`Disk`](crate::shell::seam::Disk)
//! and [`Engine`](crate::shell::seam::Engine) block inside their futures there.

use std::any::Any;
use std::io;
use std::thread::{Builder, JoinHandle};

use super::open::StoreLoops;
use super::priority::give_way;
use crate::shell::seam::BoxFuture;

/// The thread that gives way to the others.
const FEED: &str = "engine-feed";

/// The running threads of a store.
#[derive(Debug)]
pub struct StoreThreads {
    threads: Vec<JoinHandle<()>>,
}

impl StoreThreads {
    /// Starts a thread for each loop, each with a small runtime of its own for timers.
    ///
    /// # Errors
    /// What the system said if a thread or its runtime cannot be made; loops that run already end
    /// with the process, which must not go on.
    pub fn start(loops: StoreLoops) -> io::Result<Self> {
        let StoreLoops {
            committer,
            preparer,
            feeder,
            loader,
            scanner,
            hint_log,
        } = loops;
        let named = [
            ("log-commit", committer),
            ("log-segments", preparer),
            (FEED, feeder),
            ("engine-load", loader),
            ("engine-page", scanner),
            ("hint-log", hint_log),
        ];
        let threads = named.into_iter().map(|(name, future)| run(name, future));
        Ok(Self {
            threads: threads.collect::<io::Result<_>>()?,
        })
    }

    /// Waits until every loop has ended; [`super::StoreHandle::stop`] makes them. Blocks.
    ///
    /// # Errors
    /// [`io::Error`] if a loop panicked.
    pub fn join(self) -> io::Result<()> {
        for thread in self.threads {
            let name = thread.thread().name().unwrap_or("store").to_owned();
            thread
                .join()
                .map_err(|_| io::Error::other(format!("the thread {name} panicked")))?;
        }
        Ok(())
    }

    /// Whether a loop has ended; before a stop was asked for this means that it failed.
    #[must_use]
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Which loops have ended by now, each with what its panic said if that ended it.
    #[must_use]
    pub fn how_ended(&mut self) -> String {
        let ended = self.threads.extract_if(.., |thread| thread.is_finished());
        let how = ended.map(|thread| {
            let name = thread.thread().name().unwrap_or("store").to_owned();
            match thread.join() {
                Ok(()) => format!("its thread {name} ended by itself"),
                Err(panic) => format!("its thread {name} panicked: {}", said(&*panic)),
            }
        });
        how.collect::<Vec<_>>().join("; ")
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("nothing more is known")
}

fn run(name: &str, future: BoxFuture<'static, ()>) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let gives_way = name == FEED;
    Builder::new().name(name.to_owned()).spawn(move || {
        if gives_way {
            give_way();
        }
        runtime.block_on(future);
    })
}
