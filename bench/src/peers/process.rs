//! A server process of another system: its output in a file, killed when it is not needed any more.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::usage;

/// A running process. It is killed when this is dropped: its data are thrown away with it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` with its output in `folder`; `None` if it is not installed.
    #[expect(
        clippy::disallowed_types,
        reason = "the output of another process goes to a file of this tool"
    )]
    pub(super) fn start(program: &str, args: &[String], folder: &Path) -> Result<Option<Self>> {
        std::fs::create_dir_all(folder)?;
        let output = std::fs::File::create(folder.join("output"))?;
        let errors = output.try_clone()?;
        let spawned = Command::new(program)
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn();
        match spawned {
            Ok(child) => Ok(Some(Self { child })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot run {program}")),
        }
    }

    /// CPU time since its start.
    pub(super) fn cpu(&self) -> Result<Duration> {
        usage::cpu_of(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed, and is only reaped.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Ports that were free a moment ago, each another one.
pub(super) fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let mut held = Vec::with_capacity(COUNT);
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
