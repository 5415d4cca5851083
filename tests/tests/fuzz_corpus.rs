//! Replays the committed inputs of every fuzz target, and some thousand mutants of them with a
//! fixed seed. The binary `fuzz` does the same for as long as it is told, and measures memory.

use quorate_tests::fuzz::{Fuzz, Meter, all_targets};

/// Mutants of each target; the log's are whole starts of a store.
const MUTANTS: u64 = 5_000;
const MUTANTS_OF_LOG: u64 = 300;

#[test]
fn committed_inputs_and_their_mutants_break_no_promise() {
    for target in all_targets() {
        let name = target.name();
        let count = if name == "log" {
            MUTANTS_OF_LOG
        } else {
            MUTANTS
        };
        let mut fuzz = Fuzz::new(target, Meter::none(), 7);
        let committed = fuzz.add_committed().expect("the corpus is readable");
        assert!(committed > 0, "{name} has no committed inputs");
        let done = fuzz.replay().and_then(|()| fuzz.mutate(count));
        if let Err(finding) = done {
            let input = finding.input.escape_ascii();
            panic!("{name}: {}: {input}", finding.what);
        }
        assert!(fuzz.progress().executions > count);
    }
}
