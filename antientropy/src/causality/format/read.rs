//! Takes elements off the front of untrusted bytes; every step is checked, none allocates.

use super::{DecodeError, Field, VERSION};

/// What is left of the input.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn skip(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.rest = self.rest.get(bytes..).ok_or(DecodeError::Truncated)?;
        Ok(())
    }

    /// A LEB128 number in its shortest form.
    #[inline]
    pub(super) fn number(&mut self) -> Result<u64, DecodeError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut number = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            // The tenth byte has room for one bit; a last byte of zero says nothing.
            if byte == 0 || (shift == 63 && byte > 1) {
                return Err(DecodeError::BadNumber);
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
            shift += 7;
        }
    }

    /// A count of elements that take at least `bytes_each`; refused if they cannot be there.
    #[inline]
    pub(super) fn count(&mut self, field: Field, bytes_each: usize) -> Result<usize, DecodeError> {
        let count = self.number()?;
        let fits = usize::try_from(count)
            .ok()
            .filter(|n| *n <= self.rest.len() / bytes_each);
        fits.ok_or(DecodeError::TooMany { field, count })
    }

    pub(super) fn version(&mut self) -> Result<(), DecodeError> {
        let found = self.byte()?;
        if found == VERSION {
            Ok(())
        } else {
            Err(DecodeError::UnknownVersion { found })
        }
    }

    pub(super) const fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing {
                bytes: self.rest.len(),
            })
        }
    }
}
