//! The client of the probe: so many requests under way over one stream; an answer sends the next.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::BytesMut;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use quorate_client::link::{CloseCode, node_san};

use super::Mode;
use super::certificates::{CLUSTER, Folders, node_name};
use super::frames::{Frames, Kind};
use super::links::{client_endpoint, dial, piece};
use super::report::ProbeRun;
use crate::clock::Clock;
use crate::recorder::{End, Kind as Operation, Recorder};

/// A connection to the coordinator.
#[derive(Debug)]
pub(super) struct ProbeClient {
    endpoint: Endpoint,
    /// The streams live as long as it does.
    _connection: Connection,
    send: SendStream,
    recv: RecvStream,
    mode: Mode,
    clock: Clock,
    next_number: u64,
}

impl ProbeClient {
    pub(super) async fn connect(
        folders: &Folders,
        coordinator: SocketAddr,
        mode: Mode,
        clock: Clock,
    ) -> Result<Self> {
        let endpoint = client_endpoint()?;
        let name = node_san(CLUSTER, &node_name(0)?);
        let crypto = folders.client_crypto()?;
        let (connection, send, recv) = dial(&endpoint, crypto, coordinator, &name).await?;
        Ok(Self {
            endpoint,
            _connection: connection,
            send,
            recv,
            mode,
            clock,
            next_number: 0,
        })
    }

    /// Sends `operations` requests, and waits for the answer of the last.
    pub(super) async fn run(&mut self, operations: u64, in_flight: u32) -> Result<ProbeRun> {
        let begin = self.clock.now();
        let mut run = Progress {
            left: operations,
            sent: BTreeMap::new(),
            recorder: Recorder::default(),
            last: begin,
            longest_stall: Duration::ZERO,
        };
        let mut out = BytesMut::new();
        for _ in 0..in_flight {
            self.ask(&mut run, &mut out);
        }
        self.send.write_chunk(out.split().freeze()).await?;
        let mut frames = Frames::new(Kind::Answer(self.mode));
        while !run.sent.is_empty() {
            let Some(piece) = piece(&mut self.recv).await? else {
                bail!("the coordinator closed the stream");
            };
            frames.push(&piece);
            while let Some((number, _)) = frames.next() {
                run.answered(number, self.clock.now(), self.mode)?;
                self.ask(&mut run, &mut out);
            }
            if !out.is_empty() {
                self.send.write_chunk(out.split().freeze()).await?;
            }
        }
        Ok(ProbeRun {
            recorder: run.recorder,
            elapsed: self.clock.now() - begin,
            longest_stall: run.longest_stall,
            processes: Vec::new(),
        })
    }

    /// Ends the connection, and waits until the coordinator was told.
    pub(super) async fn close(self) {
        self.endpoint.close(CloseCode::Done.into(), b"");
        self.endpoint.wait_idle().await;
    }

    fn ask(&mut self, run: &mut Progress, out: &mut BytesMut) {
        if run.left == 0 {
            return;
        }
        run.left -= 1;
        self.next_number += 1;
        run.sent.insert(self.next_number, self.clock.now());
        Kind::Request(self.mode).put(out, self.next_number);
    }
}

/// How far a run is.
#[derive(Debug)]
struct Progress {
    left: u64,
    /// When the requests under way were sent.
    sent: BTreeMap<u64, Duration>,
    recorder: Recorder,
    last: Duration,
    longest_stall: Duration,
}

impl Progress {
    fn answered(&mut self, number: u64, now: Duration, mode: Mode) -> Result<()> {
        let sent = self.sent.remove(&number).context("an answer to nothing")?;
        let kind = operation(mode);
        self.recorder.add(kind, End::Done, now.saturating_sub(sent));
        self.longest_stall = self.longest_stall.max(now.saturating_sub(self.last));
        self.last = now;
        Ok(())
    }
}

/// As what a request is recorded.
pub(super) const fn operation(mode: Mode) -> Operation {
    match mode {
        Mode::Write => Operation::Write,
        Mode::Read => Operation::Read,
    }
}
