//! Queries and conditions as text again, which parses to the same.

use std::fmt;

use super::syntax::RESERVED;
use super::{Aggregate, Condition, Item, ItemValue, Order, Projection, Property, Select, Source};

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_explained { "EXPLAIN SELECT " } else { "SELECT " })?;
        if let Some(top) = self.top {
            write!(f, "TOP {top} ")?;
        }
        match &self.projection {
            Projection::All => f.write_str("*")?,
            Projection::Items(items) => list(f, items)?,
        }
        write!(f, " FROM {}", self.source)?;
        if let Some(condition) = &self.condition {
            write!(f, " WHERE {condition}")?;
        }
        if !self.group_by.is_empty() {
            f.write_str(" GROUP BY ")?;
            list(f, &self.group_by)?;
        }
        if !self.order_by.is_empty() {
            f.write_str(" ORDER BY ")?;
            list(f, &self.order_by)?;
        }
        Ok(())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.source, &self.expression) {
            (Source::Devices, None) => f.write_str("*"),
            (Source::Devices, Some(condition)) => condition.fmt(f),
            (source, None) => write!(f, "FROM {source}"),
            (source, Some(condition)) => write!(f, "FROM {source} WHERE {condition}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Devices => "devices",
            Self::Modules => "devices.modules",
            Self::Jobs => "devices.jobs",
        })
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            ItemValue::Property(property) => property.fmt(f)?,
            ItemValue::Aggregate(Aggregate::Count) => f.write_str("COUNT()")?,
            ItemValue::Aggregate(Aggregate::Of(total, property)) => {
                write!(f, "{}({property})", total.name())?;
            }
        }
        f.write_str(" AS ")?;
        name(f, &self.name)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.property.fmt(f)?;
        f.write_str(if self.descending { " DESC" } else { "" })
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Else the name of a property would be taken for that of the collection.
        if self.root().eq_ignore_ascii_case("devices") {
            f.write_str("devices.")?;
        }
        for (index, segment) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            name(f, segment)?;
        }
        Ok(())
    }
}

fn name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || b"_$".contains(&byte);
    let is_word = name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit());
    let is_reserved = RESERVED.iter().any(|word| word.eq_ignore_ascii_case(name));
    match name {
        // Of what stands in brackets, blanks at the ends are no part; an empty name is nothing but blanks.
        "" => f.write_str("[[ ]]"),
        _ if is_word && !is_reserved => f.write_str(name),
        _ => write!(f, "[[{name}]]"),
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { ", " })?;
        item.fmt(f)?;
    }
    Ok(())
}
