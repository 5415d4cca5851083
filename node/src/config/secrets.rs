//! `secrets.toml`: the keys that all nodes of a cluster share. Format 1, readable by its owner
//! only.
//!
//! The context key seals the context tokens that clients carry; the digest secret seeds the bucket
//! digests, so that nobody outside can make two records collide.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::hex;

/// The keys. Their bytes are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecrets {
    /// Seals context tokens.
    pub context_key: [u8; 32],
    /// Seeds bucket digests.
    pub digest_secret: [u8; 32],
}

impl fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecrets(..)")
    }
}

/// Why the secrets cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// Others than its owner may read it.
    #[error("{path} may be read by others (mode {mode:o}); run `chmod 600 {path}`")]
    TooOpen {
        /// Which file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A field is missing, unknown, or not 64 hexadecimal digits; or the format is another one.
    #[error("{path} is no secrets file of this release: {reason}")]
    Invalid {
        /// Which file.
        path: String,
        /// What is wrong; never a part of the content.
        reason: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileV1 {
    format: u32,
    context_key: String,
    digest_secret: String,
}

impl ClusterSecrets {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`SecretsError`] if it cannot be read, others may read it, or it is malformed.
    pub fn load(path: &Path) -> Result<Self, SecretsError> {
        let shown = path.display().to_string();
        let unreadable = |e: std::io::Error| SecretsError::Unreadable {
            path: shown.clone(),
            reason: e.to_string(),
        };
        let mode = std::fs::metadata(path).map_err(unreadable)?;
        let mode = mode.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretsError::TooOpen { path: shown, mode });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(|reason| SecretsError::Invalid {
            path: shown,
            reason,
        })
    }

    /// The file's text.
    ///
    /// # Panics
    /// Never: strings always render.
    #[must_use]
    pub fn render(&self) -> String {
        let file = FileV1 {
            format: 1,
            context_key: hex::encode(&self.context_key),
            digest_secret: hex::encode(&self.digest_secret),
        };
        let body = toml::to_string(&file).expect("strings and numbers always render");
        format!("# Keys of the cluster, the same on every node. Keep them secret.\n{body}")
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let file: FileV1 = toml::from_str(text).map_err(|_| "a field is missing or unknown")?;
        if file.format != 1 {
            return Err("its format is not 1");
        }
        let key = "a key is not 64 hexadecimal digits";
        Ok(Self {
            context_key: hex::decode(&file.context_key).ok_or(key)?,
            digest_secret: hex::decode(&file.digest_secret).ok_or(key)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendered_secrets_read_back() {
        let secrets = ClusterSecrets {
            context_key: [7; 32],
            digest_secret: [9; 32],
        };
        assert_eq!(ClusterSecrets::parse(&secrets.render()), Ok(secrets));
    }

    #[test]
    fn a_secrets_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("secrets.toml");
        let secrets = ClusterSecrets {
            context_key: [7; 32],
            digest_secret: [9; 32],
        };
        std::fs::write(&path, secrets.render()).expect("writable");
        let set = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode));
        set(0o644).expect("own file");
        let refused = ClusterSecrets::load(&path);
        assert!(matches!(
            refused,
            Err(SecretsError::TooOpen { mode: 0o644, .. })
        ));
        set(0o600).expect("own file");
        assert_eq!(ClusterSecrets::load(&path), Ok(secrets));
    }
}
