//! What a client has seen of a key, as an opaque token.
//!
//! A node sealed it: it is bound to its keyspace and key and authenticated, so it can be stored,
//! sent elsewhere and used by another client, but not made up or altered. A write *after* a
//! context supersedes exactly what the context covers.
//!
//! Not here: what is inside (`quorate-antientropy`).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::versions::{Read, Written};
use crate::wire::{ContextToken, TOKEN_BYTES_MAX};

/// What a client has seen of a key. Cheap to clone.
///
/// As text it is URL-safe base64.
///
/// # Example
/// ```
/// # quorate_client::testing::block_on(async {
/// use quorate_client::Context;
///
/// let users = quorate_client::testing::client().keyspace("default");
/// let text = users.get("alice").await?.context().to_string();
/// let context: Context = text.parse()?;
/// users.put("alice", "1").after(context).await?;
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Context(Bytes);

/// Why a text is no context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextParseError {
    /// It is not base64.
    #[error("the context is not URL-safe base64; give it exactly as it was printed")]
    NotBase64,
    /// It is empty or longer than any context.
    #[error("a context of {bytes} bytes cannot be: one has 1 to {TOKEN_BYTES_MAX} bytes")]
    Length {
        /// Bytes that were given.
        bytes: usize,
    },
}

impl Context {
    pub(crate) fn from_wire(token: ContextToken) -> Self {
        Self(token.0)
    }

    pub(crate) fn to_wire(&self) -> ContextToken {
        ContextToken(self.0.clone())
    }

    /// Takes a context as bytes, as [`Context::as_bytes`] gave them.
    ///
    /// # Errors
    /// [`ContextParseError::Length`] if it is empty or too long. Whether it is genuine is told by
    /// the node that is given it.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, ContextParseError> {
        let bytes = bytes.into();
        if (1..=TOKEN_BYTES_MAX).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(ContextParseError::Length { bytes: bytes.len() })
        }
    }

    /// Bytes of the token.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The token.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} bytes)", self.0.len())
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl FromStr for Context {
    type Err = ContextParseError;

    fn from_str(text: &str) -> Result<Self, ContextParseError> {
        // Four characters carry three bytes; nothing longer is decoded at all.
        if text.len() / 4 * 3 > TOKEN_BYTES_MAX {
            let bytes = text.len() / 4 * 3;
            return Err(ContextParseError::Length { bytes });
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| ContextParseError::NotBase64)?;
        Self::from_bytes(bytes)
    }
}

/// What a write comes after: a [`Read`], a [`Written`] or a [`Context`].
#[derive(Debug, Clone)]
pub struct After(pub(crate) Option<Context>);

impl From<Context> for After {
    fn from(context: Context) -> Self {
        Self(Some(context))
    }
}

impl From<&Context> for After {
    fn from(context: &Context) -> Self {
        Self(Some(context.clone()))
    }
}

impl From<&Read> for After {
    fn from(read: &Read) -> Self {
        Self(Some(read.context().clone()))
    }
}

impl From<&Written> for After {
    /// A write whose reply had no context cannot be followed; a put after it is refused as
    /// *not applied* instead of silently becoming a sibling.
    fn from(written: &Written) -> Self {
        Self(written.context().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_its_way_through_text() {
        let context = Context::from_bytes(vec![0, 255, 7, 62, 63]).expect("not empty");
        assert_eq!(context.to_string().parse(), Ok(context));
    }

    #[test]
    fn what_is_no_context_is_refused() {
        let length = |bytes| Err(ContextParseError::Length { bytes });
        let cases = [
            ("", length(0)),
            ("no base64!", Err(ContextParseError::NotBase64)),
            ("A", Err(ContextParseError::NotBase64)),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Context>(), want, "{text}");
        }
        let long = "A".repeat(TOKEN_BYTES_MAX * 2);
        assert!(matches!(
            long.parse::<Context>(),
            Err(ContextParseError::Length { .. })
        ));
    }
}
