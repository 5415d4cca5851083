//! `probe` and `diff` as programs: their processes, their documents and their exit codes.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const DIFF: &str = env!("CARGO_BIN_EXE_diff");

fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    output.expect("the program is there")
}

fn probe(args: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let parent = folder.path().to_str().expect("a path in UTF-8");
    let output = run(
        PROBE,
        &[args, &["-o", "json", "--data-parent", parent]].concat(),
    );
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
    let mut left = std::fs::read_dir(folder.path()).expect("the folder");
    assert!(left.next().is_none(), "it leaves nothing");
    serde_json::from_slice(&output.stdout).expect("one document")
}

#[test]
fn the_probe_answers_every_request_in_both_modes() {
    for (mode, option) in [("write", &[][..]), ("read", &["--no-sync"])] {
        let some = ["--ops", "100", "--runs", "2", "--in-flight", "7"];
        let document = probe(&[&some, option].concat());
        let case = &document["cases"][0];
        assert_eq!(case["mode"], mode);
        assert_eq!(case["operations"], 200, "{document}");
        assert_eq!(case["runs"].as_array().map(Vec::len), Some(2));
        assert!(case[mode]["p50_us"]["median"].as_f64() > Some(0.0));
        assert!(case["longest_stall_ms"]["min"].as_f64() > Some(0.0));
    }
}

#[test]
fn the_probe_syncs_alone() {
    let document = probe(&["--sync-only", "--seconds", "1"]);
    assert!(document["syncs"].as_u64() > Some(0), "{document}");
    assert!(document["longest_stall_ms"].as_f64() > Some(0.0));
}

fn report(folder: &Path, name: &str, runs: usize, rate: u32) -> String {
    let path = folder.join(name);
    let document = json!({
        "schema": "load/v1",
        "cases": [{
            "in_flight": 1,
            "operations_per_second": {"median": rate, "min": rate, "max": rate},
            "runs": vec![0; runs],
        }],
    });
    std::fs::write(&path, document.to_string()).expect("it is written");
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn diff_says_by_its_exit_code_what_a_script_must_know() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = |name, runs, rate| report(folder.path(), name, runs, rate);
    let before = report("before", 5, 100);
    let cases = [
        (report("slower", 5, 90), &[][..], Some(0), "worse"),
        (
            report("slow", 5, 90),
            &["--fail-on-worse", "5"],
            Some(1),
            "worse",
        ),
        (
            report("bit", 5, 97),
            &["--fail-on-worse", "5"],
            Some(0),
            "worse",
        ),
        (
            report("fast", 5, 150),
            &["--fail-on-worse", "5"],
            Some(0),
            "better",
        ),
        (report("four", 4, 100), &[], Some(2), "has 4 runs"),
        (
            report("allowed", 4, 100),
            &["--runs-min", "4"],
            Some(0),
            "no difference",
        ),
        ("/nowhere".to_owned(), &[], Some(2), "cannot read"),
    ];
    for (after, options, code, said) in cases {
        let output = run(
            DIFF,
            &[&[before.as_str(), after.as_str()], options].concat(),
        );
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert_eq!(output.status.code(), code, "{after}: {told}");
        assert!(told.contains(said), "{after}: {told}");
    }
}
