//! Conditional headers, as values and as rules. A write whose condition does not hold is refused; a read is told that nothing is new.

use base::Timestamp;

use crate::error::Error;

/// Tags are without quotes; `*` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    pub if_match: Option<String>,
    pub if_none_match: Option<String>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
    /// Of an append: where it must begin, and how long the blob may become.
    pub append_position: Option<u64>,
    pub length_max: Option<u64>,
}

/// What is there: its tag, and when it was changed.
type There<'a> = Option<(&'a str, Timestamp)>;

impl Conditions {
    pub fn check_write(&self, there: There<'_>) -> Result<(), Error> {
        match (self.if_none_match.as_deref(), there) {
            (Some("*"), Some(_)) => return Err(Error::BlobAlreadyExists),
            (Some(tag), Some((etag, _))) if tag == etag => return Err(Error::ConditionNotMet),
            _ => {}
        }
        let is_new = |(_, modified): (&str, Timestamp)| is_later(modified, self.if_modified_since);
        if there.is_some_and(|there| !is_new(there)) {
            return Err(Error::ConditionNotMet);
        }
        self.check_match(there)
    }

    pub fn check_read(&self, etag: &str, modified: Timestamp) -> Result<(), Error> {
        self.check_match(Some((etag, modified)))?;
        let has_it = match self.if_none_match.as_deref() {
            Some(tag) => tag == "*" || tag == etag,
            None => !is_later(modified, self.if_modified_since),
        };
        if has_it { Err(Error::NotModified) } else { Ok(()) }
    }

    fn check_match(&self, there: There<'_>) -> Result<(), Error> {
        let matches = match (self.if_match.as_deref(), there) {
            (None, _) | (Some("*"), Some(_)) => true,
            (Some(tag), Some((etag, _))) => tag == etag,
            (Some(_), None) => false,
        };
        let is_old = match (self.if_unmodified_since, there) {
            (Some(_), Some((_, modified))) => !is_later(modified, self.if_unmodified_since),
            _ => true,
        };
        if matches && is_old { Ok(()) } else { Err(Error::ConditionNotMet) }
    }
}

/// By whole seconds, as headers tell it.
fn is_later(modified: Timestamp, since: Option<Timestamp>) -> bool {
    since.is_none_or(|since| modified.unix_seconds() > since.unix_seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn a_write_is_refused_where_its_condition_does_not_hold() {
        let tag = |tag: &str| Some(tag.to_owned());
        let there = Some(("a", at(10)));
        let none = Conditions::default();
        assert_eq!([none.check_write(None), none.check_write(there)], [Ok(()), Ok(())]);
        let new = Conditions { if_none_match: tag("*"), ..none.clone() };
        assert_eq!([new.check_write(None), new.check_write(there)], [Ok(()), Err(Error::BlobAlreadyExists)]);
        let other = Conditions { if_none_match: tag("a"), ..none.clone() };
        assert_eq!(
            [other.check_write(None), other.check_write(there)],
            [Ok(()), Err(Error::ConditionNotMet)]
        );
        for (wanted, is_met) in [("a", true), ("*", true), ("b", false)] {
            let same = Conditions { if_match: tag(wanted), ..none.clone() };
            assert_eq!(same.check_write(there).is_ok(), is_met, "{wanted}");
            assert_eq!(same.check_write(None), Err(Error::ConditionNotMet), "{wanted}");
        }
        for (since, is_later) in [(9, true), (10, false), (11, false)] {
            let later = Conditions { if_modified_since: Some(at(since)), ..none.clone() };
            assert_eq!(later.check_write(there).is_ok(), is_later, "{since}");
            let earlier = Conditions { if_unmodified_since: Some(at(since)), ..none.clone() };
            assert_eq!(earlier.check_write(there).is_ok(), !is_later, "{since}");
        }
    }

    #[test]
    fn a_reader_who_has_it_is_told_so() {
        let none = Conditions::default();
        assert_eq!(none.check_read("a", at(10)), Ok(()));
        let has = |tag: &str| Conditions { if_none_match: Some(tag.to_owned()), ..Conditions::default() };
        assert_eq!(has("a").check_read("a", at(10)), Err(Error::NotModified));
        assert_eq!(has("b").check_read("a", at(10)), Ok(()));
        let since = |seconds| Conditions { if_modified_since: Some(at(seconds)), ..Conditions::default() };
        assert_eq!(since(10).check_read("a", at(10)), Err(Error::NotModified));
        assert_eq!(since(9).check_read("a", at(10)), Ok(()));
        let same = Conditions { if_match: Some("b".to_owned()), ..none };
        assert_eq!(same.check_read("a", at(10)), Err(Error::ConditionNotMet));
    }
}
