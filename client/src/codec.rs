//! Values as types: how they become bytes, for [`Keyspace::update`](crate::Keyspace::update) and
//! [`Read::decode`].
//!
//! Not here: choosing between siblings (`settle`).

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::versions::Read;
use crate::wire::{VALUE_BYTES_MAX, prescan};

/// A type that values are of.
///
/// # Example
/// ```
/// use quorate_client::{Codec, CodecError};
///
/// /// Celsius in tenths, as text.
/// #[derive(Debug, PartialEq)]
/// struct Celsius(i32);
///
/// impl Codec for Celsius {
///     fn encode(&self) -> Result<bytes::Bytes, CodecError> {
///         Ok(self.0.to_string().into())
///     }
///
///     fn decode(bytes: &bytes::Bytes) -> Result<Self, CodecError> {
///         let text = std::str::from_utf8(bytes).map_err(CodecError::new)?;
///         text.parse().map(Self).map_err(CodecError::new)
///     }
/// }
///
/// let bytes = Celsius(215).encode().expect("text");
/// assert_eq!(Celsius::decode(&bytes).expect("a number"), Celsius(215));
/// ```
pub trait Codec: Sized {
    /// The bytes of a value.
    ///
    /// # Errors
    /// [`CodecError`] if it has no form.
    fn encode(&self) -> Result<Bytes, CodecError>;

    /// The value of bytes. What another program wrote may be anything: never panic.
    ///
    /// # Errors
    /// [`CodecError`] if they are no value of this type.
    fn decode(bytes: &Bytes) -> Result<Self, CodecError>;
}

/// Why a value has no bytes, or bytes are no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CodecError {
    reason: String,
}

impl CodecError {
    /// An error with the reason of another one.
    pub fn new(reason: impl fmt::Display) -> Self {
        let reason = reason.to_string();
        Self { reason }
    }
}

impl Codec for Bytes {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(self.clone())
    }

    fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        Ok(bytes.clone())
    }
}

impl Codec for String {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(self.as_bytes()))
    }

    fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        let text = std::str::from_utf8(bytes).map_err(CodecError::new)?;
        Ok(text.to_owned())
    }
}

/// As decimal digits, so that people can read it.
impl Codec for u64 {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(self.to_string().into())
    }

    fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        let text = std::str::from_utf8(bytes).map_err(CodecError::new)?;
        text.parse().map_err(CodecError::new)
    }
}

/// A value of any type that serde knows, as MessagePack with named fields: fields may be added
/// with `#[serde(default)]`, and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Packed<T>(pub T);

/// Most MessagePack values in a [`Packed`] value.
const ITEMS_MAX: usize = VALUE_BYTES_MAX;

impl<T: Serialize + DeserializeOwned> Codec for Packed<T> {
    fn encode(&self) -> Result<Bytes, CodecError> {
        let packed = rmp_serde::to_vec_named(&self.0);
        packed.map(Bytes::from).map_err(CodecError::new)
    }

    fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        prescan::check(bytes, ITEMS_MAX).map_err(CodecError::new)?;
        rmp_serde::from_slice(bytes)
            .map(Self)
            .map_err(CodecError::new)
    }
}

/// The values of a record, as a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed<T> {
    /// Nobody wrote the key, or the last write deleted it.
    Absent,
    /// One value.
    One(T),
    /// Two or more values that were written without knowing of each other, in an order that all
    /// nodes agree on.
    Siblings(Vec<T>),
}

impl Read {
    /// The values as a type.
    ///
    /// # Errors
    /// [`CodecError`] of the first value that is none of this type.
    ///
    /// # Example
    /// ```
    /// # quorate_client::testing::block_on(async {
    /// use quorate_client::Typed;
    ///
    /// let scores = quorate_client::testing::client().keyspace("default");
    /// scores.put_blind("alice", "7").await?;
    /// assert_eq!(scores.get("alice").await?.decode::<u64>()?, Typed::One(7));
    /// scores.put_blind("alice", "9").await?;
    /// assert_eq!(scores.get("alice").await?.decode::<u64>()?, Typed::Siblings(vec![7, 9]));
    /// # Ok(()) });
    /// ```
    pub fn decode<T: Codec>(&self) -> Result<Typed<T>, CodecError> {
        let mut values = Vec::with_capacity(self.values().len());
        for bytes in self.values() {
            values.push(T::decode(bytes)?);
        }
        let single = values.len() == 1;
        Ok(match values.pop() {
            None => Typed::Absent,
            Some(value) if single => Typed::One(value),
            Some(last) => {
                values.push(last);
                Typed::Siblings(values)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_encoded_comes_back_and_the_rest_is_refused() {
        let set = Packed(BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        let bytes = set.encode().expect("a set");
        assert_eq!(Packed::decode(&bytes), Ok(set));
        let cut = bytes.slice(..bytes.len() - 1);
        assert!(Packed::<BTreeSet<String>>::decode(&cut).is_err());
        assert!(u64::decode(&Bytes::from_static(b"7x")).is_err());
        assert!(String::decode(&Bytes::from_static(b"\xff")).is_err());
        assert_eq!(u64::decode(&7_u64.encode().expect("a number")), Ok(7));
    }
}
