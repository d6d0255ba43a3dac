//! The text of POST /models: what it must be before it is stored. Pure, and as long in memory as it must be: of 32 MB of text
//! nothing is kept in another form but the models that it makes. `twinhub models check` asks here too.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use base::caps;
use dtdl::{Dtmi, Issue, Options};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::compiled::Compilation;
use super::snapshot::Snapshot;
use crate::Error;

const OPTIONS: Options = Options::azure_digital_twins();

pub(super) fn text(body: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(body).map_err(|_| Error::PayloadInvalid)
}

/// Everything wrong with definitions that are to be uploaded to an instance without models, in one call or in several.
pub fn issues(text: &str) -> Vec<Issue> {
    let found = dtdl::check_text(text, &|_| None, &OPTIONS);
    let whole = |error: Error| Issue {
        model: None,
        path: String::new(),
        position: None,
        rule: error.code(),
        message: error.to_string(),
    };
    match definitions(text) {
        _ if !found.is_empty() => found,
        Ok(definitions) => definitions.iter().filter_map(|one| check_size(one).err()).map(whole).collect(),
        Err(error) => vec![whole(error)],
    }
}

/// The checks of the service in its order, up to the parser. The answer is the definitions as they will be stored.
pub(super) fn check(text: &str, snapshot: &Snapshot) -> Result<Vec<Box<RawValue>>, Error> {
    let definitions = definitions(text)?;
    if definitions.len() > caps::MODELS_PER_CALL_MAX {
        return Err(Error::LimitExceeded(format!(
            "The number of models in a request cannot exceed {}.",
            caps::MODELS_PER_CALL_MAX
        )));
    }
    let kept = definitions.iter().map(|one| check_size(one)).collect::<Result<Vec<_>, _>>()?;
    let heads: Vec<Head> = definitions.iter().map(|one| Head::of(one.get())).collect();
    for head in &heads {
        refuse_other_versions(head)?;
    }
    let ids = heads.iter().filter_map(|head| head.id.as_deref());
    let existing: Vec<&str> = ids.filter(|id| is_stored(id, snapshot)).collect();
    if !existing.is_empty() {
        return Err(Error::ModelAlreadyExists(existing.join(", ")));
    }
    let count = snapshot.len() + definitions.len();
    if i64::try_from(count).is_ok_and(|count| count > caps::MODELS_PER_INSTANCE_MAX) {
        return Err(Error::LimitExceeded(format!(
            "The number of models in an instance cannot exceed {}.",
            caps::MODELS_PER_INSTANCE_MAX
        )));
    }
    Ok(kept)
}

/// A list of objects, and not an empty one.
fn definitions(text: &str) -> Result<Vec<&RawValue>, Error> {
    let values: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| Error::PayloadInvalid)?;
    if values.is_empty() || !values.iter().all(|value| value.get().starts_with('{')) {
        return Err(Error::ModelsInvalid);
    }
    Ok(values)
}

/// What is stored of a definition, which is what its size is measured by.
fn check_size(definition: &RawValue) -> Result<Box<RawValue>, Error> {
    let text = base::json::without_blanks(definition.get());
    if text.len() > caps::MODEL_BYTES_MAX {
        return Err(Error::LimitExceeded(format!("A model cannot exceed {} bytes.", caps::MODEL_BYTES_MAX)));
    }
    RawValue::from_string(text).map_err(|_| Error::PayloadInvalid)
}

fn is_stored(id: &str, snapshot: &Snapshot) -> bool {
    id.parse().is_ok_and(|id: Dtmi| snapshot.get(&id).is_some())
}

/// The members that are looked at before the parser sees a definition.
struct Head<'t> {
    id: Option<Cow<'t, str>>,
    /// The first DTDL context.
    context: Option<Cow<'t, str>>,
}

const DTDL: &str = "dtmi:dtdl:context;";

impl<'t> Head<'t> {
    fn of(definition: &'t str) -> Self {
        let members: HashMap<Cow<str>, &'t RawValue> = serde_json::from_str(definition).unwrap_or_default();
        let string = |value: &'t RawValue| serde_json::from_str::<Text>(value.get()).ok().map(|text| text.0);
        let contexts = members.get("@context").map(|value| {
            serde_json::from_str::<Vec<&'t RawValue>>(value.get()).unwrap_or_else(|_| vec![*value])
        });
        let contexts = contexts.into_iter().flatten().filter_map(string);
        Self {
            id: members.get("@id").and_then(|value| string(value)),
            context: contexts.into_iter().find(|context| context.starts_with(DTDL)),
        }
    }
}

/// Borrowed where it has no escapes, which `Cow` alone does not do.
#[derive(serde::Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

/// A context that names a DTDL version which the service does not take. Anything else wrong with it is the parser's to tell.
fn refuse_other_versions(head: &Head) -> Result<(), Error> {
    let version = head.context.as_deref().and_then(|context| context.strip_prefix(DTDL));
    match version {
        Some(version) if !matches!(version, "2" | "3") => {
            let id = head.id.as_deref().unwrap_or("without @id");
            Err(Error::ModelVersionNotSupported(id.chars().take(caps::ID_CHARACTERS_MAX).collect()))
        }
        _ => Ok(()),
    }
}

/// Every identifier that the definitions mention: what they extend and contain is among them, in whatever words they say so.
pub(super) fn named(text: &str) -> BTreeSet<Dtmi> {
    let mut found = BTreeSet::new();
    // What is nested too deep for this reader is too deep for the parser, which says so.
    let _ = Mentions(&mut found).deserialize(&mut serde_json::Deserializer::from_str(text));
    found
}

struct Mentions<'f>(&'f mut BTreeSet<Dtmi>);

impl<'de> DeserializeSeed<'de> for Mentions<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Mentions<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if text.starts_with("dtmi:") {
            self.0.extend(text.parse::<Dtmi>());
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Mentions(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<Text>()? {
            // The target of a relationship need not be there.
            if name.0 == "target" {
                members.next_value::<IgnoredAny>()?;
            } else {
                members.next_value_seed(Mentions(self.0))?;
            }
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}

/// Parses an upload against what is stored already.
pub(super) fn compile(text: &str, stored: &Compilation) -> Result<Vec<dtdl::Model>, Error> {
    dtdl::parse_text(text, &|id| stored.get(id), &OPTIONS).map_err(|issues| {
        if issues.iter().any(|issue| issue.rule == dtdl::INVALID_JSON) {
            return Error::PayloadInvalid;
        }
        // The parser knows nothing of models that do not compile and calls them undefined.
        let broken = stored.broken().map(|(id, why)| format!("{id} is stored but cannot be used: {why}."));
        Error::DtdlParserError(broken.take(1).chain([sentences(&issues)]).collect::<Vec<_>>().join(" "))
    })
}

/// The service tells the first problem of all; we tell as many as fit a message.
pub(crate) fn sentences(issues: &[Issue]) -> String {
    let shown: Vec<&str> =
        issues.iter().take(caps::MODEL_ISSUES_TOLD_MAX).map(|issue| issue.message.as_str()).collect();
    shown.join(" ")
}
