//! Runs a target over its corpus and over mutants, until it is told to stop or finds something.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::memory::Meter;
use super::mutate::mutant;
use super::{Shape, Target};
use crate::cluster::Stopwatch;

/// Longest time of one input: far more than any needs on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Inputs that the corpus of one run holds at most.
const CORPUS_MAX: usize = 4_096;

/// An input that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The input.
    pub input: Vec<u8>,
    /// What is wrong.
    pub what: String,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Inputs that were tried.
    pub executions: u64,
    /// Inputs in the corpus.
    pub corpus: usize,
}

/// A run over one target.
#[derive(Debug)]
pub struct Fuzz {
    target: Box<dyn Target>,
    meter: Meter,
    random: SmallRng,
    corpus: Vec<Vec<u8>>,
    shapes: BTreeMap<Shape, usize>,
    executions: u64,
}

/// The folder of the committed corpus of the target of this name.
#[must_use]
pub fn corpus_folder(target: &str) -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.join("corpus").join(target)
}

impl Fuzz {
    /// A run whose draws follow from `seed`, with the target's own seeds in its corpus.
    #[must_use]
    pub fn new(target: Box<dyn Target>, meter: Meter, seed: u64) -> Self {
        let corpus = target.seeds();
        Self {
            target,
            meter,
            random: SmallRng::seed_from_u64(seed),
            corpus,
            shapes: BTreeMap::new(),
            executions: 0,
        }
    }

    /// Adds the committed inputs of the target.
    ///
    /// # Errors
    /// If the folder is there and cannot be read.
    pub fn add_committed(&mut self) -> Result<usize> {
        let folder = corpus_folder(self.target.name());
        if !folder.exists() {
            return Ok(0);
        }
        let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        let mut files = Vec::new();
        for entry in entries {
            files.push(entry?.path());
        }
        files.sort();
        for file in &files {
            self.corpus.push(std::fs::read(file)?);
        }
        Ok(files.len())
    }

    /// Tries every input of the corpus as it is.
    ///
    /// # Errors
    /// The first that breaks a promise.
    pub fn replay(&mut self) -> Result<(), Finding> {
        for input in self.corpus.clone() {
            let shape = self.execute(&input)?;
            let known = self.shapes.len();
            self.shapes.entry(shape).or_insert(known);
        }
        Ok(())
    }

    /// Tries `count` mutants.
    ///
    /// # Errors
    /// The first that breaks a promise.
    pub fn mutate(&mut self, count: u64) -> Result<(), Finding> {
        for _ in 0..count {
            let pick = |random: &mut SmallRng| random.random_range(0..self.corpus.len());
            let (one, other) = (pick(&mut self.random), pick(&mut self.random));
            let input = mutant(&self.corpus[one], &self.corpus[other], &mut self.random);
            let shape = self.execute(&input)?;
            let number = self.corpus.len();
            if number < CORPUS_MAX && !self.shapes.contains_key(&shape) {
                self.shapes.insert(shape, number);
                self.corpus.push(input);
            }
        }
        Ok(())
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            executions: self.executions,
            corpus: self.corpus.len(),
        }
    }

    /// Inputs that were found by mutation, each of a shape of its own, the shortest first; those
    /// that it began with if there are none.
    #[must_use]
    pub fn found(&self) -> Vec<&[u8]> {
        let seeds = self.target.seeds().len();
        let seeds = if self.corpus.len() > seeds { seeds } else { 0 };
        let mut found: Vec<&[u8]> = self.corpus.iter().skip(seeds).map(Vec::as_slice).collect();
        found.sort_by_key(|input| (input.len(), *input));
        found
    }

    fn execute(&mut self, input: &[u8]) -> Result<Shape, Finding> {
        self.executions += 1;
        let finding = |what: String| Finding {
            input: input.to_vec(),
            what,
        };
        let watch = Stopwatch::start();
        let before = self.meter.now();
        let target = &self.target;
        let ran = catch_unwind(AssertUnwindSafe(|| target.run(input)));
        let allowance = target.allowance();
        let complaint = self.meter.complaint(before, input.len(), allowance);
        let shape = match ran {
            Ok(Ok(shape)) => shape,
            Ok(Err(what)) => return Err(finding(what)),
            Err(_) => return Err(finding("it panics".to_owned())),
        };
        if let Some(complaint) = complaint {
            return Err(finding(complaint));
        }
        let took = watch.elapsed();
        if took > TIME_MAX {
            return Err(finding(format!("it takes {took:?}")));
        }
        Ok(shape)
    }
}
