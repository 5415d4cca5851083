//! Where the binary `quorate` is.
//!
//! `QUORATE_BINARY` names it. Else cargo builds it, in the profile that this test was built in, and
//! says where it is: a test never runs a binary that is older than the source. Without cargo it is
//! the one beside the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The binary, built once per process.
///
/// # Errors
/// If it is not there and cannot be built.
pub fn binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BINARY.get_or_init(|| find().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(reason) => bail!("there is no binary to test: {reason}"),
    }
}

fn find() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("QUORATE_BINARY") {
        return Ok(path.into());
    }
    if let Some(cargo) = std::env::var_os("CARGO") {
        return build(Path::new(&cargo));
    }
    let path = profile_folder()?.join("quorate");
    if path.exists() {
        return Ok(path);
    }
    bail!(
        "{} does not exist; run `cargo build` or set QUORATE_BINARY",
        path.display()
    )
}

fn build(cargo: &Path) -> Result<PathBuf> {
    let folder = profile_folder()?;
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .context("a profile")?;
    let profile = if name == "debug" { "dev" } else { name };
    let output = Command::new(cargo)
        .args(["build", "--package", "quorate-node", "--bin", "quorate"])
        .args([
            "--profile",
            profile,
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("cargo does not start")?;
    if !output.status.success() {
        bail!(
            "it does not build: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let documents = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut paths =
        documents.filter_map(|document| document["executable"].as_str().map(PathBuf::from));
    paths
        .next_back()
        .context("cargo does not say where the binary is")
}

/// The folder of the profile that this process was built in: above `deps` for tests.
fn profile_folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("a program lies in a folder")?;
    let is_deps = folder.file_name().is_some_and(|name| name == "deps");
    let folder = if is_deps {
        folder.parent()
    } else {
        Some(folder)
    };
    folder
        .map(Path::to_owned)
        .context("tests lie below a folder of their profile")
}
