//! Decodes compact MessagePack and skips array items that this release does not know.
//!
//! Messages are arrays whose fields are only ever added at the end. `rmp-serde` takes a shorter
//! array where the missing fields have `#[serde(default)]`, but refuses a longer one. This wrapper
//! reads what the type wants and drains the rest, at every level, so that both directions work.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// Decodes one value; the caller has let [`super::prescan::check`] look over `bytes` before.
///
/// # Errors
/// The decoder's error where a field is missing, of a wrong type, or out of range.
pub fn from_slice<'de, T: serde::Deserialize<'de>>(
    bytes: &'de [u8],
) -> Result<T, rmp_serde::decode::Error> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(2 * super::prescan::DEPTH_MAX);
    T::deserialize(Lenient(&mut decoder))
}

struct Lenient<D>(D);

struct Tolerant<V>(V);

struct LenientSeq<A>(A);

struct LenientSeed<S>(S);

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $name<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$name($($arg,)* Tolerant(visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Lenient<D> {
    type Error = D::Error;

    forward! {
        deserialize_any(); deserialize_bool(); deserialize_char(); deserialize_str();
        deserialize_i8(); deserialize_i16(); deserialize_i32(); deserialize_i64();
        deserialize_u8(); deserialize_u16(); deserialize_u32(); deserialize_u64();
        deserialize_f32(); deserialize_f64(); deserialize_string(); deserialize_bytes();
        deserialize_byte_buf(); deserialize_option(); deserialize_unit(); deserialize_seq();
        deserialize_map(); deserialize_identifier(); deserialize_ignored_any();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_tuple(count: usize);
        deserialize_tuple_struct(name: &'static str, count: usize);
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! visit {
    ($($name:ident($type:ty);)*) => {
        $(fn $name<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$name(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Tolerant<V> {
    type Value = V::Value;

    visit! {
        visit_bool(bool); visit_char(char); visit_i8(i8); visit_i16(i16); visit_i32(i32);
        visit_i64(i64); visit_u8(u8); visit_u16(u16); visit_u32(u32); visit_u64(u64);
        visit_f32(f32); visit_f64(f64); visit_str(&str); visit_borrowed_str(&'de str);
        visit_string(String); visit_bytes(&[u8]); visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Lenient(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Lenient(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        let mut items = LenientSeq(items);
        let value = self.0.visit_seq(&mut items)?;
        while items.0.next_element::<IgnoredAny>()?.is_some() {}
        Ok(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(entries)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(variant)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for LenientSeq<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(LenientSeed(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for LenientSeed<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Lenient(inner))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        a: u8,
        inner: Option<OldInner>,
        list: Vec<OldInner>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct OldInner {
        x: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        a: u8,
        inner: Option<NewInner>,
        list: Vec<NewInner>,
        #[serde(default)]
        added: u64,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct NewInner {
        x: String,
        #[serde(default)]
        y: Vec<u8>,
    }

    #[test]
    fn fields_added_at_the_end_are_read_by_old_and_new_releases() {
        let inner = || OldInner { x: "x".into() };
        let old = Old {
            a: 1,
            inner: Some(inner()),
            list: vec![inner(), inner()],
        };
        let inner = |y| NewInner { x: "x".into(), y };
        let new = New {
            a: 1,
            inner: Some(inner(vec![7])),
            list: vec![inner(vec![]); 2],
            added: 9,
        };

        let bytes = rmp_serde::to_vec(&new).expect("encodes");
        assert_eq!(from_slice::<Old>(&bytes).expect("new to old"), old);

        let bytes = rmp_serde::to_vec(&old).expect("encodes");
        let read = from_slice::<New>(&bytes).expect("old to new");
        assert_eq!((read.added, read.inner), (0, Some(inner(vec![]))));
    }
}
