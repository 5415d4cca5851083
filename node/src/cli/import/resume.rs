//! What an interrupted import leaves behind: a file beside the imported one, for `--resume`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::exit::{Exit, Problem};
use super::super::lines::Start;

const SCHEMA: &str = "import-progress/v1";

/// Content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    schema: String,
    /// Cluster that the records went to.
    cluster_id: String,
    /// Keyspace that they went to.
    keyspace: String,
    /// Length of the imported file.
    file_bytes: u64,
    /// Bytes that are applied without a gap.
    offset: u64,
    /// Lines that these bytes hold.
    lines: u64,
}

/// The file of one import. `None` where standard input is imported.
#[derive(Debug)]
pub(super) struct ProgressFile {
    path: PathBuf,
    progress: Progress,
}

impl ProgressFile {
    /// The file beside `imported`.
    pub(super) fn beside(
        imported: &Path,
        cluster_id: String,
        keyspace: String,
    ) -> std::io::Result<Self> {
        let mut name = imported.file_name().unwrap_or_default().to_owned();
        name.push(".import-progress");
        Ok(Self {
            path: imported.with_file_name(name),
            progress: Progress {
                schema: SCHEMA.to_owned(),
                cluster_id,
                keyspace,
                file_bytes: std::fs::metadata(imported)?.len(),
                offset: 0,
                lines: 0,
            },
        })
    }

    /// Where an interrupted import of the same file into the same keyspace stopped; the start if
    /// there was none.
    pub(super) fn start(&self) -> Result<Start, Problem> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Start::default()),
            Err(e) => return Err(e.into()),
        };
        let found: Option<Progress> = serde_json::from_slice(&text).ok();
        let same = found.filter(|found| {
            let Progress {
                schema,
                cluster_id,
                keyspace,
                file_bytes,
                offset,
                lines: _,
            } = found;
            let own = &self.progress;
            *schema == own.schema
                && *cluster_id == own.cluster_id
                && *keyspace == own.keyspace
                && *file_bytes == own.file_bytes
                && *offset <= *file_bytes
        });
        match same {
            Some(found) => Ok(Start {
                offset: found.offset,
                lines: found.lines,
            }),
            None => {
                let what = format!("{} is of another import", self.path.display());
                Err(Problem::new(Exit::Refused, "RESUME_MISMATCH", what)
                    .because("the file, the keyspace or the cluster is another one")
                    .then("import without --resume: importing twice leaves one value per key"))
            }
        }
    }

    /// Remembers how far the file is applied.
    pub(super) fn save(&mut self, at: Start) -> std::io::Result<()> {
        self.progress.offset = at.offset;
        self.progress.lines = at.lines;
        let text = serde_json::to_vec(&self.progress)?;
        let new = self.path.with_extension("import-progress-new");
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &self.path)
    }

    /// All is applied: nothing is left to resume.
    pub(super) fn remove(&self) {
        // It may not be there, and one that stays does no harm: importing again is idempotent.
        let _removed = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_goes_on_only_where_it_stopped() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("a.jsonl");
        std::fs::write(&file, "0123456789").expect("writable");
        let open = |keyspace: &str| {
            ProgressFile::beside(&file, "c".to_owned(), keyspace.to_owned()).expect("there")
        };
        assert_eq!(open("k").start(), Ok(Start::default()));
        let at = Start {
            offset: 5,
            lines: 2,
        };
        open("k").save(at).expect("writable");
        assert_eq!(open("k").start(), Ok(at));
        assert!(open("other").start().is_err());
        std::fs::write(&file, "0123").expect("writable");
        assert!(open("k").start().is_err());
        open("k").remove();
        assert_eq!(open("k").start(), Ok(Start::default()));
    }
}
