//! The open loop's operations in a closed one: loads every key, and finds the peak of which an open
//! loop's rate is a part.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use super::mix::Action;
use super::record::Record;
use super::{OpenLoop, Shared};

impl OpenLoop {
    /// Writes every key once, with so many operations under way.
    ///
    /// # Errors
    /// If a task fails, which is a bug of the tool.
    ///
    /// # Cancel safety
    /// As [`OpenLoop::run`].
    pub async fn fill(&mut self, in_flight: usize) -> Result<Record> {
        let mut indexes = 0..self.shared.spec.keys;
        let next = move |_: &mut Self, _| Some((Action::Write, vec![indexes.next()?]));
        self.drive(in_flight, next).await
    }

    /// Carries out operations of the mix for so long, so many at a time.
    ///
    /// # Errors
    /// If a task fails, which is a bug of the tool.
    ///
    /// # Cancel safety
    /// As [`OpenLoop::run`].
    pub async fn closed(&mut self, in_flight: usize, length: Duration) -> Result<Record> {
        let next = move |own: &mut Self, at: Duration| {
            (at < length).then(|| {
                let action = own.shared.spec.mix.draw(&mut own.random);
                (action, own.indexes(action))
            })
        };
        self.drive(in_flight, next).await
    }

    async fn drive(
        &mut self,
        in_flight: usize,
        mut next: impl FnMut(&mut Self, Duration) -> Option<(Action, Vec<u32>)>,
    ) -> Result<Record> {
        let clock = self.shared.clock;
        let begin = clock.now();
        let mut open = JoinSet::new();
        let mut has_more = true;
        while has_more || !open.is_empty() {
            while has_more && open.len() < in_flight.max(1) {
                let at = clock.now() - begin;
                match next(self, at) {
                    Some((action, indexes)) => {
                        open.spawn(carry_out(Arc::clone(&self.shared), action, indexes, at));
                    }
                    None => has_more = false,
                }
            }
            if let Some(ended) = open.join_next().await {
                ended?;
            }
            while let Some(ended) = open.try_join_next() {
                ended?;
            }
        }
        Ok(std::mem::take(&mut *self.shared.record()))
    }
}

async fn carry_out(shared: Arc<Shared>, action: Action, indexes: Vec<u32>, at: Duration) {
    let began = shared.clock.now();
    let end = shared.carry_out(action, indexes).await;
    let took = shared.clock.now().saturating_sub(began);
    shared.record().add(action, end, at, took);
}
