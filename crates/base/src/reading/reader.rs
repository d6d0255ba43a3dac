//! A deserializer around another one: it knows at which member it is, says what is wrong there, and reads names and numbers as
//! the service does. What a visitor wants is known from the method that it calls, so no type needs to say it again.

use std::cell::RefCell;
use std::fmt::{self, Write};

use crate::caps;
use crate::json::NotJson;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

use super::Reading;

/// Why a body cannot be read, as a clause of a sentence: "'authentication.type' must be a text".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The member that holds what is wrong; empty for the whole body.
    place: Option<String>,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    NotJson(NotJson),
    /// A number or text of which JSON allows the form and nobody the value.
    NoValue,
    /// Not what was wanted; whoever called the visitor knows what that is.
    Mismatch,
    Must(String),
    Missing(&'static str),
    Unknown(String),
    Twice(&'static str),
    Refused(String),
}

impl Unreadable {
    pub(super) fn text(error: serde_json::Error) -> Self {
        Self { place: None, why: Why::NotJson(error.into()) }
    }

    /// As a part of a greater body, in the member of that name.
    #[must_use]
    pub fn within(self, name: &str) -> Self {
        let place = self.place.filter(|place| !place.is_empty());
        Self { place: Some(place.map_or(name.to_owned(), |place| format!("{name}.{place}"))), ..self }
    }

    fn new(why: Why) -> Self {
        Self { place: None, why }
    }

    fn at(self, place: &Place<'_>) -> Self {
        Self { place: Some(self.place.unwrap_or_else(|| place.to_string())), ..self }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_deref().unwrap_or_default();
        let within = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
        let whole = if place.is_empty() { "the body".to_owned() } else { format!("'{place}'") };
        match &self.why {
            Why::NotJson(why) => write!(f, "{why}"),
            Why::NoValue | Why::Mismatch => write!(f, "{whole} holds a value that cannot be read"),
            Why::Must(what) => write!(f, "{whole} must be {what}"),
            Why::Missing(name) => write!(f, "'{}' is missing", within(name)),
            Why::Unknown(name) => write!(f, "'{}' is not known", within(name)),
            Why::Twice(name) => write!(f, "'{}' is there twice", within(name)),
            Why::Refused(why) if place.is_empty() => write!(f, "{why}"),
            Why::Refused(why) => write!(f, "'{place}': {why}"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl Error for Unreadable {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(Why::Refused(text.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self::new(Why::Mismatch)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn invalid_length(_: usize, _: &dyn Expected) -> Self {
        Self::new(Why::Mismatch)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Why::Must(one_of(expected)))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self::new(Why::Unknown(field.chars().take(caps::JSON_NAME_CHARACTERS_SHOWN_MAX).collect()))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Why::Missing(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Why::Twice(field))
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [only] => format!("'{only}'"),
        _ => format!("one of '{}'", names.join("', '")),
    }
}

/// Where in the body.
pub(super) enum Place<'p> {
    Whole,
    Member(&'p Place<'p>, &'p str),
    Item(&'p Place<'p>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Member(parent, name) => {
                if !matches!(parent, Self::Whole) {
                    write!(f, "{parent}.")?;
                }
                name.chars().take(caps::JSON_NAME_CHARACTERS_SHOWN_MAX).try_for_each(|c| f.write_char(c))
            }
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The inner deserializer has an error of its own, which cannot carry ours; ours waits here meanwhile.
pub(super) struct State {
    pub(super) reading: Reading,
    pub(super) fault: RefCell<Option<Unreadable>>,
}

impl State {
    fn keep<E: Error>(&self, fault: Unreadable) -> E {
        *self.fault.borrow_mut() = Some(fault);
        E::custom("")
    }

    fn kept(&self, place: &Place<'_>) -> Unreadable {
        self.fault.borrow_mut().take().unwrap_or_else(|| Unreadable::new(Why::NoValue).at(place))
    }

    fn is_tolerant(&self) -> bool {
        self.reading == Reading::Tolerant
    }
}

pub(super) struct Reader<'s, D> {
    pub(super) from: D,
    pub(super) place: &'s Place<'s>,
    pub(super) state: &'s State,
}

/// What a type asks for.
#[derive(Clone, Copy)]
enum Want {
    Members(&'static [&'static str]),
    Map,
    List,
    Text,
    Boolean,
    WholeNumber,
    Number,
    OneOf(&'static [&'static str]),
}

impl Want {
    fn words(self) -> String {
        match self {
            Self::Members(_) | Self::Map => "an object".to_owned(),
            Self::List => "a list".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::WholeNumber => "a whole number within its limits".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::OneOf(names) => one_of(names),
        }
    }
}

impl<'de, D: Deserializer<'de>> Reader<'_, D> {
    fn want<V: Visitor<'de>>(self, want: Want, visitor: V) -> Result<V::Value, Unreadable> {
        let Self { from, place, state } = self;
        from.deserialize_any(Shaped { visitor, want, place, state }).map_err(|_| state.kept(place))
    }
}

macro_rules! want {
    ($($method:ident => $want:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
            self.want($want, visitor)
        })*
    };
}

macro_rules! opaque {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
            let Self { from, place, state } = self;
            from.$method(visitor).map_err(|_| state.kept(place))
        })*
    };
}

/// `serde_json`'s own mark of a text that is kept as it is.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Reader<'_, D> {
    type Error = Unreadable;

    opaque! { deserialize_any deserialize_ignored_any deserialize_identifier deserialize_unit }

    want! {
        deserialize_bool => Want::Boolean;
        deserialize_i8 => Want::WholeNumber;
        deserialize_i16 => Want::WholeNumber;
        deserialize_i32 => Want::WholeNumber;
        deserialize_i64 => Want::WholeNumber;
        deserialize_u8 => Want::WholeNumber;
        deserialize_u16 => Want::WholeNumber;
        deserialize_u32 => Want::WholeNumber;
        deserialize_u64 => Want::WholeNumber;
        deserialize_f32 => Want::Number;
        deserialize_f64 => Want::Number;
        deserialize_char => Want::Text;
        deserialize_str => Want::Text;
        deserialize_string => Want::Text;
        deserialize_bytes => Want::Text;
        deserialize_byte_buf => Want::Text;
        deserialize_seq => Want::List;
        deserialize_map => Want::Map;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let Self { from, place, state } = self;
        from.deserialize_option(Optional { visitor, place, state }).map_err(|_| state.kept(place))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.want(Want::Members(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.want(Want::OneOf(variants), visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        if name != RAW_VALUE {
            return visitor.visit_newtype_struct(self);
        }
        let Self { from, place, state } = self;
        from.deserialize_newtype_struct(name, visitor).map_err(|_| state.kept(place))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Unreadable> {
        self.want(Want::List, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.want(Want::List, visitor)
    }
}

struct Optional<'s, V> {
    visitor: V,
    place: &'s Place<'s>,
    state: &'s State,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Optional<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        let Self { visitor, place, state } = self;
        visitor.visit_some(Reader { from, place, state }).map_err(|fault| state.keep(fault))
    }
}

/// Takes what it wants, and in tolerant reading what stands for it.
struct Shaped<'s, V> {
    visitor: V,
    want: Want,
    place: &'s Place<'s>,
    state: &'s State,
}

impl<'de, V: Visitor<'de>> Shaped<'_, V> {
    /// Says where and what, if the visitor found something wrong.
    fn told<T, E: Error>(
        (want, place, state): (Want, &Place<'_>, &State),
        result: Result<T, Unreadable>,
    ) -> Result<T, E> {
        result.map_err(|fault| {
            let why = match fault.why {
                Why::Mismatch => Why::Must(want.words()),
                other => other,
            };
            state.keep(Unreadable { why, ..fault }.at(place))
        })
    }

    fn context(&self) -> (Want, &Place<'_>, &State) {
        (self.want, self.place, self.state)
    }

    fn other<T, E: Error>(&self) -> Result<T, E> {
        Self::told(self.context(), Err(Unreadable::new(Why::Mismatch)))
    }

    fn text(self, text: &str) -> Result<V::Value, Unreadable> {
        let mismatch = || Unreadable::new(Why::Mismatch);
        match self.want {
            Want::Text => self.visitor.visit_str(text),
            Want::OneOf(names) => {
                let name = found(names, text, self.state.is_tolerant()).unwrap_or(text);
                self.visitor.visit_enum(UnitVariant(name))
            }
            _ if !self.state.is_tolerant() => Err(mismatch()),
            Want::Boolean if text.eq_ignore_ascii_case("true") => self.visitor.visit_bool(true),
            Want::Boolean if text.eq_ignore_ascii_case("false") => self.visitor.visit_bool(false),
            Want::WholeNumber | Want::Number => match (text.trim().parse(), text.trim().parse::<f64>()) {
                (Ok(whole), _) => self.visitor.visit_i64(whole),
                (_, Ok(number)) if matches!(self.want, Want::Number) && number.is_finite() => {
                    self.visitor.visit_f64(number)
                }
                _ => Err(mismatch()),
            },
            _ => Err(mismatch()),
        }
    }
}

/// The published name that is meant.
fn found(names: &'static [&'static str], sent: &str, in_any_case: bool) -> Option<&'static str> {
    let exact = names.iter().find(|name| **name == sent);
    let similar = || names.iter().find(|name| in_any_case && name.eq_ignore_ascii_case(sent));
    exact.or_else(similar).copied()
}

macro_rules! numbers {
    ($($method:ident($kind:ty))*) => {
        $(fn $method<E: Error>(self, number: $kind) -> Result<V::Value, E> {
            match self.want {
                Want::WholeNumber | Want::Number => {
                    let context = (self.want, self.place, self.state);
                    Self::told(context, self.visitor.$method(number))
                }
                _ => self.other(),
            }
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Shaped<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    numbers! { visit_i64(i64) visit_u64(u64) visit_f64(f64) }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        match self.want {
            Want::Boolean => {
                let context = (self.want, self.place, self.state);
                Self::told(context, self.visitor.visit_bool(value))
            }
            _ => self.other(),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        let context = (self.want, self.place, self.state);
        Self::told(context, self.text(text))
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.other()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        let Self { visitor, want: Want::List, place, state } = self else { return self.other() };
        let items = Items { from: items, index: 0, place, state };
        Self::told((Want::List, place, state), visitor.visit_seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        let fields = match self.want {
            Want::Members(fields) => fields,
            Want::Map => &[],
            _ => return self.other(),
        };
        let Self { visitor, want, place, state } = self;
        let members = Members { from: members, fields, name: String::new(), place, state };
        Self::told((want, place, state), visitor.visit_map(members))
    }
}

struct Members<'s, A> {
    from: A,
    /// Published names; none for a map, whose names are the client's.
    fields: &'static [&'static str],
    name: String,
    place: &'s Place<'s>,
    state: &'s State,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<'_, A> {
    type Error = Unreadable;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unreadable> {
        let name = self.from.next_key::<String>().map_err(|_| self.state.kept(self.place))?;
        let Some(name) = name else { return Ok(None) };
        let meant = found(self.fields, &name, self.state.is_tolerant());
        self.name = meant.map_or(name, str::to_owned);
        let name: StrDeserializer<'_, Unreadable> = self.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Unreadable> {
        let (place, state) = (Place::Member(self.place, &self.name), self.state);
        let seed = Seed { inner: seed, place: &place, state };
        self.from.next_value_seed(seed).map_err(|_| state.kept(&place))
    }
}

struct Items<'s, A> {
    from: A,
    index: usize,
    place: &'s Place<'s>,
    state: &'s State,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = Unreadable;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Unreadable> {
        let (place, state) = (Place::Item(self.place, self.index), self.state);
        self.index += 1;
        let seed = Seed { inner: seed, place: &place, state };
        self.from.next_element_seed(seed).map_err(|_| state.kept(&place))
    }

    fn size_hint(&self) -> Option<usize> {
        self.from.size_hint()
    }
}

struct Seed<'s, T> {
    inner: T,
    place: &'s Place<'s>,
    state: &'s State,
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T::Value, D::Error> {
        let Self { inner, place, state } = self;
        let read = inner.deserialize(Reader { from, place, state });
        read.map_err(|fault| state.keep(fault.at(place)))
    }
}

/// A variant without content, by its name.
struct UnitVariant<'n>(&'n str);

impl<'de> EnumAccess<'de> for UnitVariant<'_> {
    type Error = Unreadable;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Unreadable> {
        let name: StrDeserializer<'_, Unreadable> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for UnitVariant<'_> {
    type Error = Unreadable;

    fn unit_variant(self) -> Result<(), Unreadable> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Unreadable> {
        Err(Unreadable::new(Why::NoValue))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Unreadable> {
        Err(Unreadable::new(Why::NoValue))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Unreadable> {
        Err(Unreadable::new(Why::NoValue))
    }
}
