//! Whether two reports differ: of each case and figure the medians, their ratio, both spreads, and
//! a verdict.
//!
//! The verdict is the plainest that noise does not fool often: two figures differ if their spreads,
//! from the least run to the greatest, have nothing in common. With five runs on each side this
//! happens by chance once in 126 times where nothing changed; a report has dozens of figures, so a
//! single verdict is a reason to look, not a proof. Fewer runs are refused: with three it would be
//! one in ten.
//!
//! Not here: what was measured; any report that has cases with figures can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::report::{Figure, rounded};

/// Runs of each case at least, unless the caller says otherwise.
pub const RUNS_MIN: usize = 5;

/// Forms of reports that are understood, and the field of each that has the cases.
const SCHEMAS: [(&str, &str); 3] = [
    ("load/v1", "cases"),
    ("ycsb/v1", "workloads"),
    ("probe/v1", "cases"),
];

/// What was asked in a run: where it differs, figures are not of the same thing.
const SETTINGS: [&str; 10] = [
    "cluster",
    "nodes",
    "keys",
    "value_bytes",
    "distribution",
    "level",
    "in_flight",
    "seconds",
    "record",
    "machine",
];

/// Settings of the machine that a difference between two commits must not have.
const MACHINE_SETTINGS: [&str; 4] = ["cores", "processor", "memory_bytes", "build"];

/// Why two reports cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// Not a report, or of a form that is not known.
    #[error("{document} is no report that can be compared (load/v1, ycsb/v1 or probe/v1)")]
    NotAReport {
        /// Which of the two.
        document: String,
    },
    /// Reports of two tools.
    #[error("{first} and {second} are reports of different tools")]
    OtherTool {
        /// Form of the first.
        first: String,
        /// Form of the second.
        second: String,
    },
    /// Too few runs to tell a difference from noise.
    #[error(
        "case `{case}` of {document} has {runs} runs; under {least} a difference cannot be told \
         from noise (measure again with more --runs, or say --runs-min {runs})"
    )]
    FewRuns {
        /// Which of the two.
        document: String,
        /// The case.
        case: String,
        /// How many it has.
        runs: usize,
        /// How many are wanted.
        least: usize,
    },
    /// They have no case in common.
    #[error("the two reports have no case in common")]
    NothingInCommon,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Beyond both spreads, for the better.
    Better,
    /// Beyond both spreads, for the worse.
    Worse,
    /// The spreads overlap.
    NoDifference,
}

impl Verdict {
    /// As it is told.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifference => "no difference",
        }
    }
}

/// One figure of one case in both reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The case.
    pub case: String,
    /// The figure.
    pub figure: String,
    /// In the first report.
    pub first: Figure,
    /// In the second report.
    pub second: Figure,
    /// What became of it.
    pub verdict: Verdict,
}

/// Two reports beside each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    /// Every figure that both have.
    pub lines: Vec<Line>,
    /// What a reader must know besides: other settings, cases of one report only, failures.
    pub remarks: Vec<String>,
}

/// A report, as far as it is compared.
#[derive(Debug)]
struct Report<'a> {
    document: &'a Value,
    schema: &'a str,
    cases: BTreeMap<String, &'a Value>,
}

impl Diff {
    /// Compares two documents; `names` are what they are called in sentences.
    ///
    /// # Errors
    /// [`DiffError`] if nothing can be said.
    pub fn of(
        documents: [&Value; 2],
        names: [&str; 2],
        runs_min: usize,
    ) -> Result<Self, DiffError> {
        let [first_document, second_document] = documents;
        let [first_name, second_name] = names;
        let first = Report::of(first_document, first_name)?;
        let second = Report::of(second_document, second_name)?;
        if first.schema != second.schema {
            return Err(DiffError::OtherTool {
                first: first.schema.to_owned(),
                second: second.schema.to_owned(),
            });
        }
        let mut diff = Self {
            lines: Vec::new(),
            remarks: settings(first.document, second.document),
        };
        for (name, case) in &first.cases {
            match second.cases.get(name) {
                Some(other) => {
                    enough_runs(case, name, first_name, runs_min)?;
                    enough_runs(other, name, second_name, runs_min)?;
                    diff.case(name, case, other);
                }
                None => diff.remarks.push(format!("only {first_name} has `{name}`")),
            }
        }
        for name in second.cases.keys() {
            if !first.cases.contains_key(name) {
                let remark = format!("only {second_name} has `{name}`");
                diff.remarks.push(remark);
            }
        }
        if diff.lines.is_empty() {
            return Err(DiffError::NothingInCommon);
        }
        Ok(diff)
    }

    /// Whether a figure is worse by more than `percent` of its median.
    #[must_use]
    pub fn is_worse_by(&self, percent: f64) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| line.verdict == Verdict::Worse && line.change_percent().abs() > percent)
    }

    /// For programs: `diff/v1`.
    #[must_use]
    pub fn json(&self) -> Value {
        let line = |line: &Line| {
            json!({
                "case": line.case,
                "figure": line.figure,
                "first": line.first.json(),
                "second": line.second.json(),
                "ratio": line.ratio().map(|ratio| (ratio * 1e4).round() / 1e4),
                "verdict": line.verdict.name(),
            })
        };
        json!({
            "schema": "diff/v1",
            "remarks": self.remarks,
            "figures": self.lines.iter().map(line).collect::<Vec<_>>(),
        })
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text)
            .expect("a string takes all that is written");
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        for remark in &self.remarks {
            writeln!(text, "note: {remark}")?;
        }
        let mut case = None;
        for line in &self.lines {
            if case != Some(&line.case) {
                writeln!(text, "\n{}: medians (least .. greatest)", line.case)?;
                case = Some(&line.case);
            }
            let ratio = line
                .ratio()
                .map_or_else(String::new, |ratio| format!("x {ratio:.3}"));
            writeln!(
                text,
                "  {:<52} {:>30}  {:>30}  {ratio:>9}  {}",
                line.figure,
                spread(line.first),
                spread(line.second),
                line.verdict.name(),
            )?;
        }
        Ok(())
    }

    fn case(&mut self, name: &str, first: &Value, second: &Value) {
        for (which, case) in [("first", first), ("second", second)] {
            let failed = case["failed"].as_u64().unwrap_or(0);
            if failed > 0 {
                let remark = format!("`{name}`: {failed} operations failed in the {which} report");
                self.remarks.push(remark);
            }
        }
        let (mut firsts, mut seconds) = (Vec::new(), BTreeMap::new());
        figures(first, "", &mut |name, figure| firsts.push((name, figure)));
        figures(second, "", &mut |name, figure| {
            seconds.insert(name, figure);
        });
        for (figure, first) in firsts {
            if let Some(second) = seconds.get(&figure).copied() {
                let verdict = verdict(first, second, more_is_better(&figure));
                self.lines.push(Line {
                    case: name.to_owned(),
                    figure,
                    first,
                    second,
                    verdict,
                });
            }
        }
    }
}

impl Line {
    /// The second median in parts of the first; `None` if that is 0.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let is_there = self.first.median.abs() > 0.0;
        is_there.then(|| self.second.median / self.first.median)
    }

    /// By how many percent the median changed; from 0 to something counts as 100.
    fn change_percent(&self) -> f64 {
        self.ratio().map_or(100.0, |ratio| (ratio - 1.0) * 100.0)
    }
}

impl<'a> Report<'a> {
    fn of(document: &'a Value, name: &str) -> Result<Self, DiffError> {
        let not_a_report = || DiffError::NotAReport {
            document: name.to_owned(),
        };
        let schema = document["schema"].as_str().unwrap_or_default();
        let mut known = SCHEMAS.iter();
        let (schema, field) = known
            .find(|(known, _)| *known == schema)
            .ok_or_else(not_a_report)?;
        let cases = document[field].as_array().ok_or_else(not_a_report)?;
        Ok(Self {
            document,
            schema,
            cases: cases.iter().map(|case| (case_name(case), case)).collect(),
        })
    }
}

/// What a case varies.
fn case_name(case: &Value) -> String {
    let part = |(field, unit): (&str, &str)| match &case[field] {
        Value::String(text) => Some(format!("{text}{unit}")),
        Value::Number(number) => Some(format!("{number}{unit}")),
        _ => None,
    };
    let parts = [
        ("workload", ""),
        ("mode", ""),
        ("reads_percent", " % reads"),
        ("in_flight", " in flight"),
    ];
    let parts: Vec<String> = parts.into_iter().filter_map(part).collect();
    parts.join(", ")
}

fn enough_runs(case: &Value, name: &str, document: &str, least: usize) -> Result<(), DiffError> {
    let runs = case["runs"].as_array().map_or(0, Vec::len);
    if runs >= least {
        return Ok(());
    }
    Err(DiffError::FewRuns {
        document: document.to_owned(),
        case: name.to_owned(),
        runs,
        least,
    })
}

/// Settings in which the reports differ.
fn settings(first: &Value, second: &Value) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut compare = |name: &str, first: &Value, second: &Value| {
        if first != second {
            remarks.push(format!("`{name}` differs: {first} and {second}"));
        }
    };
    for setting in SETTINGS {
        let (first, second) = (&first[setting], &second[setting]);
        if setting == "machine" {
            for part in MACHINE_SETTINGS {
                compare(part, &first[part], &second[part]);
            }
        } else {
            compare(setting, first, second);
        }
    }
    remarks
}

/// Every figure below `value`, in the order of the document, under its path.
fn figures(value: &Value, path: &str, found: &mut impl FnMut(String, Figure)) {
    let Some(fields) = value.as_object() else {
        return;
    };
    let names: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
    if names == BTreeSet::from(["max", "median", "min"]) {
        let field = |name: &str| value[name].as_f64();
        if let (Some(median), Some(min), Some(max)) = (field("median"), field("min"), field("max"))
        {
            found(path.to_owned(), Figure { median, min, max });
        }
        return;
    }
    for (name, inner) in fields {
        let path = match path {
            "" => name.clone(),
            path => format!("{path} {name}"),
        };
        figures(inner, &path, found);
    }
}

/// All figures are costs, but for rates.
fn more_is_better(figure: &str) -> bool {
    figure.ends_with("per_second")
}

fn verdict(first: Figure, second: Figure, more_is_better: bool) -> Verdict {
    let (is_above, is_below) = (second.min > first.max, second.max < first.min);
    match (is_above, is_below) {
        (false, false) => Verdict::NoDifference,
        (above, _) if above == more_is_better => Verdict::Better,
        _ => Verdict::Worse,
    }
}

fn spread(figure: Figure) -> String {
    let Figure { median, min, max } = figure;
    let [median, min, max] = [median, min, max].map(rounded);
    format!("{median} ({min} .. {max})")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of one case whose runs cost `cpu` and did `rate`.
    fn report(runs: usize, cpu: [f64; 3], rate: [f64; 3]) -> Value {
        let figure =
            |[min, median, max]: [f64; 3]| json!({"median": median, "min": min, "max": max});
        json!({
            "schema": "load/v1",
            "machine": {"cores": 2, "commit": "x"},
            "keys": 10,
            "cases": [{
                "reads_percent": 0,
                "in_flight": 64,
                "failed": 0,
                "operations_per_second": figure(rate),
                "cpu_us_per_operation_by_process": {"n1": figure(cpu)},
                "runs": vec![json!({}); runs],
            }],
        })
    }

    fn diff(first: &Value, second: &Value) -> Result<Diff, DiffError> {
        Diff::of([first, second], ["A", "B"], RUNS_MIN)
    }

    #[test]
    fn figures_differ_where_their_spreads_do_not_meet() {
        let before = report(5, [10.0, 11.0, 12.0], [100.0, 110.0, 120.0]);
        let cases = [
            (
                [12.0, 13.0, 14.0],
                [90.0, 95.0, 100.0],
                ["no difference", "no difference"],
            ),
            (
                [13.0, 14.0, 15.0],
                [121.0, 130.0, 140.0],
                ["better", "worse"],
            ),
            ([7.0, 8.0, 9.0], [80.0, 90.0, 99.0], ["worse", "better"]),
        ];
        for (cpu, rate, want) in cases {
            let diff = diff(&before, &report(5, cpu, rate)).expect("both have five runs");
            let verdicts: Vec<_> = diff.lines.iter().map(|line| line.verdict.name()).collect();
            assert_eq!(verdicts, want, "{cpu:?} {rate:?}");
        }
    }

    #[test]
    fn figures_are_named_by_their_path() {
        let one = report(5, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]);
        let diff = diff(&one, &one).expect("the same");
        let names: Vec<_> = diff.lines.iter().map(|line| line.figure.as_str()).collect();
        let want = [
            "operations_per_second",
            "cpu_us_per_operation_by_process n1",
        ];
        assert_eq!(names, want);
        assert_eq!(diff.remarks, Vec::<String>::new());
        let text = diff.text();
        assert!(text.contains("0 % reads, 64 in flight"), "{text}");
        assert!(text.contains("x 1.000"), "{text}");
    }

    #[test]
    fn few_runs_are_refused_unless_they_are_allowed() {
        let (four, five) = (report(4, [1.0; 3], [1.0; 3]), report(5, [1.0; 3], [1.0; 3]));
        let error = diff(&five, &four).expect_err("four runs");
        let text = error.to_string();
        assert!(
            text.contains("`0 % reads, 64 in flight` of B has 4 runs"),
            "{text}"
        );
        assert!(Diff::of([&five, &four], ["A", "B"], 4).is_ok());
    }

    #[test]
    fn worse_counts_from_a_percentage_on() {
        let before = report(5, [10.0; 3], [100.0; 3]);
        let diff = diff(&before, &report(5, [11.0; 3], [100.0; 3])).expect("comparable");
        assert!(diff.is_worse_by(9.0));
        assert!(!diff.is_worse_by(10.5));
        let better = Diff::of([&before, &report(5, [1.0; 3], [500.0; 3])], ["A", "B"], 5);
        assert!(!better.expect("comparable").is_worse_by(0.0));
    }

    #[test]
    fn other_settings_and_failures_are_told_and_other_documents_refused() {
        let before = report(5, [1.0; 3], [1.0; 3]);
        let mut after = before.clone();
        after["keys"] = json!(20);
        after["machine"]["cores"] = json!(4);
        after["cases"][0]["failed"] = json!(3);
        let told = diff(&before, &after).expect("comparable").text();
        for want in [
            "`keys` differs: 10 and 20",
            "`cores` differs",
            "3 operations failed",
        ] {
            assert!(told.contains(want), "{told}");
        }
        let refused = |document: &Value| diff(&before, document).expect_err("not comparable");
        assert!(matches!(refused(&json!([])), DiffError::NotAReport { .. }));
        after["schema"] = json!("ycsb/v1");
        after["workloads"] = json!([]);
        assert!(matches!(refused(&after), DiffError::OtherTool { .. }));
        let mut other = before.clone();
        other["cases"][0]["in_flight"] = json!(1);
        assert_eq!(refused(&other), DiffError::NothingInCommon);
    }
}
