//! Ports for a cluster, below those that the system gives out by itself.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};

const FIRST: u16 = 20_000;
const STEP: u16 = 300;
const SLOTS: u16 = 40;

/// Slots that this process has tried.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// A base for `nodes` nodes: node i (from 1) may use base + i, base + 100 + i and base + 200 + i.
/// No base is given twice in one process.
///
/// # Errors
/// If nothing is free.
pub fn free_base(nodes: u16) -> Result<u16> {
    // Processes that run at once begin at different slots.
    let own = u16::try_from(std::process::id() % u32::from(SLOTS)).unwrap_or(0);
    let mut bases = (0..SLOTS).map(|_| {
        let slot = own.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % SLOTS;
        FIRST + slot * STEP
    });
    let is_usable = |base: &u16| {
        (1..=nodes).all(|node| {
            [0, 100, 200]
                .iter()
                .all(|offset| is_free(base + offset + node))
        })
    };
    bases.find(is_usable).context("no free ports for a cluster")
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}
