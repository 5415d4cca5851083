//! The binary `quorate`.

use std::process::ExitCode;

#[cfg(feature = "planted-bugs")]
compile_error!("the shipped binary must not contain planted bugs");

fn main() -> ExitCode {
    quorate_node::cli::run(std::env::args_os())
}
