//! A store in a process of its own, to be killed: see `faults::script`.

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    quorate_tests::faults::script::run(&arguments)
}
