//! Digital twin model identifiers: the checked string, and the rules of its parts by DTDL version.
//! Called by the parser for every `@id` and reference, and by every crate that names a model. Compares bytes; never folds case.

use base::caps;
use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// An identifier that some DTDL version accepts: `dtmi:segment(:segment)*`, a version that may be absent or `major.minor`, no fragment.
/// Which of these one version accepts is asked with [`Dtmi::allowed_in`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dtmi(Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a digital twin model identifier")]
pub struct InvalidDtmi(String);

impl Dtmi {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Major and minor version; a missing minor is 0, a missing version is none.
    pub fn version(&self) -> Option<(u32, u32)> {
        let (_, version) = self.0.split_once(';')?;
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    /// The identifier without its version.
    pub fn versionless(&self) -> &str {
        self.0.split_once(';').map_or(&*self.0, |(path, _)| path)
    }

    /// The segments between `dtmi:` and the version.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.versionless().split(':').skip(1)
    }

    /// DTDL 2 wants a whole version number; later versions take `major.minor` or nothing.
    pub fn allowed_in(&self, language_version: u8) -> bool {
        language_version > 2 || matches!(self.0.split_once(';'), Some((_, version)) if !version.contains('.'))
    }
}

impl FromStr for Dtmi {
    type Err = InvalidDtmi;

    fn from_str(text: &str) -> Result<Self, InvalidDtmi> {
        if is_dtmi(text) { Ok(Self(text.into())) } else { Err(InvalidDtmi(text.chars().take(256).collect())) }
    }
}

impl TryFrom<String> for Dtmi {
    type Error = InvalidDtmi;

    fn try_from(text: String) -> Result<Self, InvalidDtmi> {
        text.parse()
    }
}

impl From<Dtmi> for String {
    fn from(dtmi: Dtmi) -> Self {
        dtmi.as_str().to_owned()
    }
}

impl fmt::Display for Dtmi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Dtmi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names of contents, fields and the like; also one segment of an identifier.
pub fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes.first(), Some(first) if first.is_ascii_alphabetic())
        && matches!(bytes.last(), Some(last) if last.is_ascii_alphanumeric())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

fn is_dtmi(text: &str) -> bool {
    has_dtmi_shape(text) && text.len() <= caps::MODEL_ID_CHARACTERS_MAX
}

/// The pattern alone, of any length, so that an identifier too long is told apart from one misspelt.
pub(crate) fn has_dtmi_shape(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("dtmi:") else { return false };
    let (path, version) = rest.split_once(';').map_or((rest, None), |(path, version)| (path, Some(version)));
    path.split(':').all(is_name) && version.is_none_or(is_version)
}

fn is_version(text: &str) -> bool {
    let number = |text: &str, digits_max: usize| {
        (1..=digits_max).contains(&text.len())
            && !text.starts_with('0')
            && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    match text.split_once('.') {
        None => number(text, 9),
        Some((major, minor)) => number(major, 9) && number(minor, 6),
    }
}
