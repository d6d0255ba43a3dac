//! How twins change: merge, deletion by null, versions and metadata, and what a twin may hold (`iothub-service.md` §4,
//! `iothub-device.md` §6). Pure: values in, value out.

use base::json::{NotJson, Object};
use base::{Timestamp, caps};
use serde_json::{Value, json};

use crate::error::Error;
use crate::twin::record::{DeviceTwin, Section};

/// What a PATCH asks of one section.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Change {
    #[default]
    Keep,
    Clear,
    Merge(Object),
}

/// The body of a PATCH: tags and desired properties. What else a twin has is ignored, because clients send whole twins back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TwinPatch {
    pub tags: Change,
    pub desired: Change,
}

/// The body of a PUT: what tags and desired properties become.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TwinReplacement {
    pub tags: Object,
    pub desired: Object,
}

/// What a twin holds from the start: what a back end said, or, of a device that comes from another hub, all that it had there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InitialTwin {
    pub tags: Object,
    pub desired: Object,
    pub reported: Object,
}

impl From<TwinReplacement> for InitialTwin {
    fn from(TwinReplacement { tags, desired }: TwinReplacement) -> Self {
        Self { tags, desired, reported: Object::new() }
    }
}

/// A changed twin and what has to be told about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    pub twin: DeviceTwin,
    /// For the connected device: changed desired properties with nulls and `$version`.
    pub desired_notification: Option<Object>,
    /// For the event stream: `version` and the sections that were touched.
    pub change: Object,
}

impl Applied {
    /// Before anything of it is changed.
    pub(crate) fn unchanged(twin: DeviceTwin) -> Self {
        Self { twin, desired_notification: None, change: Object::new() }
    }

    /// Lays `patch` over the desired properties as a part of the same change, of which the device hears once; `old` is how they were
    /// before it.
    pub(crate) fn also_desire(&mut self, old: &Section, patch: &Object, now: Timestamp) {
        if self.change.is_empty() {
            self.change = begin_change(&mut self.twin);
        }
        let is_desired = self.desired_notification.is_some();
        if !is_desired && !self.change.contains_key("tags") {
            self.twin.etag.0 += 1;
        }
        let section = &mut self.twin.properties.desired;
        if is_desired {
            section.version -= 1;
        }
        merge_section(section, patch, now, true);
        let told = difference(&old.values, &section.values);
        let stamp = Stamp { at: now.iso7(), version: Some(section.version) };
        self.change.entry("properties").or_insert_with(|| json!({}))["desired"] =
            stamp.change(&told, section.version);
        self.desired_notification = Some(notification(told, section.version));
    }
}

impl TwinPatch {
    /// The twin's part of an item of a bulk call, which has members of its own beside it.
    pub fn parse_item(item: &[u8]) -> Result<Self, Error> {
        Self::from_json(&parse(item)?)
    }

    /// The body as it was sent.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let body = parse(body)?;
        check_known(&body)?;
        Self::from_json(&body)
    }

    pub fn from_json(body: &Value) -> Result<Self, Error> {
        let (tags, desired) = sections(body)?;
        let change = |section: Option<&Value>, name: &str| match section {
            None => Ok(Change::Keep),
            Some(Value::Null) => Ok(Change::Clear),
            Some(Value::Object(members)) => Ok(Change::Merge(members.clone())),
            Some(_) => Err(not_an_object(name)),
        };
        let mut patch = Self { tags: change(tags, "tags")?, desired: change(desired, "properties.desired")? };
        if let Change::Merge(members) = &mut patch.desired {
            drop_round_tripped(members);
        }
        Ok(patch)
    }
}

impl TwinReplacement {
    /// The twin's part of an item of a bulk call, which has members of its own beside it.
    pub fn parse_item(item: &[u8]) -> Result<Self, Error> {
        Self::from_json(&parse(item)?)
    }

    /// The body as it was sent.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let body = parse(body)?;
        check_known(&body)?;
        Self::from_json(&body)
    }

    pub fn from_json(body: &Value) -> Result<Self, Error> {
        let (tags, desired) = sections(body)?;
        let whole = |section: Option<&Value>, name: &str| match section {
            None | Some(Value::Null) => Ok(Object::new()),
            Some(Value::Object(members)) => Ok(without_nulls(members)),
            Some(_) => Err(not_an_object(name)),
        };
        let (tags, mut desired) = (whole(tags, "tags")?, whole(desired, "properties.desired")?);
        drop_round_tripped(&mut desired);
        Ok(Self { tags, desired })
    }

    /// Whether a twin may hold it.
    pub fn check(&self) -> Result<(), Error> {
        check_section(&self.tags, caps::TWIN_TAGS_BYTES_MAX, "tags")?;
        check_section(&self.desired, caps::TWIN_DESIRED_BYTES_MAX, "properties.desired")
    }
}

/// What a line of a file that is imported says of a twin. What it does not say is nothing.
pub(crate) struct TwinParts {
    pub(crate) tags: Option<Object>,
    pub(crate) desired: Option<Object>,
    pub(crate) reported: Option<Object>,
    pub(crate) etag: Option<String>,
}

impl TwinParts {
    pub(crate) fn parse_item(item: &[u8]) -> Result<Self, Error> {
        let body = parse(item)?;
        let (tags, desired) = sections(&body)?;
        let members = |body: &Value, name: &str| {
            let found = body.as_object().map(|members| member(members, name)).transpose()?.flatten();
            Ok::<_, Error>(found.cloned())
        };
        let reported = members(&body, "properties")?.map(|properties| members(&properties, "reported"));
        let reported = reported.transpose()?.flatten();
        let whole = |section: Option<&Value>, name: &str| match section {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(members)) => {
                let mut members = without_nulls(members);
                drop_round_tripped(&mut members);
                Ok(Some(members))
            }
            Some(_) => Err(not_an_object(name)),
        };
        Ok(Self {
            tags: whole(tags, "tags")?,
            desired: whole(desired, "properties.desired")?,
            reported: whole(reported.as_ref(), "properties.reported")?,
            etag: members(&body, "twinETag")?.and_then(|etag| etag.as_str().map(str::to_owned)),
        })
    }
}

/// JSON as a caller sent it. Integers are held against their range here too: those beyond 64 bits would be read as floats.
pub(super) fn parse(text: &[u8]) -> Result<Value, Error> {
    let not_json = |error: serde_json::Error| not_valid(&format!(": {}", NotJson::from(error)));
    let value = serde_json::from_slice(text).map_err(not_json)?;
    match integers(text).find(|digits| digits.parse::<i64>().is_err()) {
        None => Ok(value),
        Some(_) => Err(not_valid(": an integer is out of range")),
    }
}

/// The numbers of a JSON text that have neither fraction nor exponent.
fn integers(json: &[u8]) -> impl Iterator<Item = &str> {
    let (mut in_text, mut is_escaped) = (false, false);
    let numerals = json.split(move |byte| {
        let is_numeral = !in_text && (byte.is_ascii_digit() || b"+-.eE".contains(byte));
        if *byte == b'"' && !is_escaped {
            in_text = !in_text;
        }
        is_escaped = in_text && *byte == b'\\' && !is_escaped;
        !is_numeral
    });
    let numerals = numerals.filter_map(|run| std::str::from_utf8(run).ok());
    numerals.filter(|run| run.contains(|c: char| c.is_ascii_digit()) && !run.contains(['.', 'e', 'E']))
}

/// Tags and desired properties. The service reads the names of a twin's own members in any case.
fn sections(body: &Value) -> Result<(Option<&Value>, Option<&Value>), Error> {
    let Value::Object(body) = body else { return Err(not_an_object("twin")) };
    let desired = match member(body, "properties")? {
        None | Some(Value::Null) => None,
        Some(Value::Object(properties)) => member(properties, "desired")?,
        Some(_) => return Err(not_an_object("properties")),
    };
    Ok((member(body, "tags")?, desired))
}

fn member<'v>(members: &'v Object, name: &str) -> Result<Option<&'v Value>, Error> {
    let mut found = members.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (found, None) => Ok(found.map(|(_, value)| value)),
        _ => Err(not_valid(&format!(": '{name}' is there twice"))),
    }
}

/// Whatever a twin shows may be sent back. Any other name would be lost in silence, so it is refused as the service does.
fn check_known(body: &Value) -> Result<(), Error> {
    let known = |members: Option<&Value>, names: &[&str]| {
        let Some(Value::Object(members)) = members else { return true };
        members.keys().all(|sent| names.iter().any(|name| name.eq_ignore_ascii_case(sent)))
    };
    let properties = body.as_object().map(|body| member(body, "properties")).transpose()?.flatten();
    if known(Some(body), MEMBERS) && known(properties, &["desired", "reported"]) {
        return Ok(());
    }
    Err(Error::BadRequest)
}

/// The members of a twin (`iothub-service.md` §4.1), and at the end those that the client of Java sends beside them.
const MEMBERS: &[&str] = &[
    "deviceId",
    "moduleId",
    "etag",
    "deviceEtag",
    "status",
    "statusReason",
    "statusUpdateTime",
    "connectionState",
    "lastActivityTime",
    "cloudToDeviceMessageCount",
    "authenticationType",
    "x509Thumbprint",
    "modelId",
    "version",
    "tags",
    "properties",
    "capabilities",
    "configurations",
    "deviceScope",
    "parentScopes",
    "generationId",
    "statusUpdatedTime",
    "connectionStateUpdatedTime",
];

pub(super) fn not_an_object(name: &str) -> Error {
    not_valid(&format!(": '{name}' must be an object"))
}

fn not_valid(why: &str) -> Error {
    Error::invalid(format!("Provided json is not a valid 'tags' or 'properties' object{why}."))
}

/// Clients that send a twin back include what only the service writes.
fn drop_round_tripped(desired: &mut Object) {
    desired.shift_remove("$version");
    desired.shift_remove("$metadata");
}

/// `None` when the patch touches nothing: then nothing changes, not even versions.
pub fn apply(twin: &DeviceTwin, patch: &TwinPatch, now: Timestamp) -> Result<Option<Applied>, Error> {
    let tags = as_merge(&patch.tags, &twin.tags);
    let desired = as_merge(&patch.desired, &twin.properties.desired.values);
    if tags.is_none() && desired.is_none() {
        return Ok(None);
    }
    let mut new = twin.clone();
    let mut change = begin_change(&mut new);
    new.etag.0 += 1;
    if let Some(tags) = tags {
        check_members(&tags, "tags")?;
        merge(&mut new.tags, &tags);
        check_size(&new.tags, caps::TWIN_TAGS_BYTES_MAX, "tags")?;
        change.insert("tags".into(), Value::Object(tags));
    }
    let mut desired_notification = None;
    if let Some(desired) = desired {
        check_members(&desired, "properties.desired")?;
        let section = &mut new.properties.desired;
        let changed = merge_section(section, &desired, now, true);
        check_size(&section.values, caps::TWIN_DESIRED_BYTES_MAX, "properties.desired")?;
        desired_notification = Some(notification(desired, section.version));
        change.insert("properties".into(), json!({ "desired": changed }));
    }
    Ok(Some(Applied { twin: new, desired_notification, change }))
}

/// A PUT: tags and desired become what is given; reported stays.
pub fn replace(twin: &DeviceTwin, replacement: &TwinReplacement, now: Timestamp) -> Result<Applied, Error> {
    replacement.check()?;
    let mut new = twin.clone();
    let mut change = begin_change(&mut new);
    new.etag.0 += 1;
    new.tags.clone_from(&replacement.tags);
    let section = &mut new.properties.desired;
    let told = with_removals(&section.values, &replacement.desired);
    section.values.clear();
    section.metadata.clear();
    merge_section(section, &replacement.desired, now, true);
    let desired_notification = Some(notification(told, section.version));
    change.insert("tags".into(), Value::Object(new.tags.clone()));
    Ok(Applied { twin: new, desired_notification, change })
}

/// The device's own patch. An empty one counts as a write, like Azure's.
pub fn apply_reported(
    twin: &DeviceTwin,
    patch: &Object,
    expected_version: Option<u64>,
    now: Timestamp,
) -> Result<Applied, Error> {
    if expected_version.is_some_and(|expected| expected != twin.properties.reported.version) {
        return Err(Error::PreconditionFailed(
            "Precondition failed: reported properties have another $version.",
        ));
    }
    check_members(patch, "properties.reported")?;
    let mut new = twin.clone();
    let mut change = begin_change(&mut new);
    let section = &mut new.properties.reported;
    let changed = merge_section(section, patch, now, false);
    check_size(&section.values, caps::TWIN_REPORTED_BYTES_MAX, "properties.reported")?;
    change.insert("properties".into(), json!({ "reported": changed }));
    Ok(Applied { twin: new, desired_notification: None, change })
}

/// First contents of a new twin: they do not count as a change.
pub fn fill(twin: &mut DeviceTwin, initial: &InitialTwin, now: Timestamp) -> Result<(), Error> {
    let InitialTwin { tags, desired, reported } = initial;
    for (members, bytes_max, section) in [
        (tags, caps::TWIN_TAGS_BYTES_MAX, "tags"),
        (desired, caps::TWIN_DESIRED_BYTES_MAX, "properties.desired"),
        (reported, caps::TWIN_REPORTED_BYTES_MAX, "properties.reported"),
    ] {
        check_section(members, bytes_max, section)?;
    }
    twin.tags.clone_from(tags);
    let properties = &mut twin.properties;
    for (section, members, with_version) in
        [(&mut properties.desired, desired, true), (&mut properties.reported, reported, false)]
    {
        if !members.is_empty() {
            section.version = 0;
            merge_section(section, members, now, with_version);
        }
    }
    Ok(())
}

pub(crate) fn check_section(members: &Object, bytes_max: usize, section: &str) -> Result<(), Error> {
    check_members(members, section)?;
    check_size(members, bytes_max, section)
}

fn begin_change(twin: &mut DeviceTwin) -> Object {
    twin.version += 1;
    let mut change = Object::new();
    change.insert("version".into(), json!(twin.version));
    change
}

/// The merge that a change stands for; `None` when it touches nothing.
fn as_merge(change: &Change, current: &Object) -> Option<Object> {
    match change {
        Change::Keep => None,
        Change::Clear => Some(current.keys().map(|key| (key.clone(), Value::Null)).collect()),
        Change::Merge(members) => Some(members.clone()),
    }
    .filter(|members: &Object| !members.is_empty())
}

fn notification(mut changed: Object, version: u64) -> Object {
    changed.insert("$version".into(), json!(version));
    changed
}

/// What a device must merge to get from `old` to `new`.
pub(crate) fn with_removals(old: &Object, new: &Object) -> Object {
    let mut told = new.clone();
    for (key, was) in old {
        match (was, told.get_mut(key)) {
            (_, None) => {
                told.insert(key.clone(), Value::Null);
            }
            (Value::Object(was), Some(Value::Object(is))) => *is = with_removals(was, is),
            _ => {}
        }
    }
    told
}

/// The least patch that makes `old` into `new`.
pub(crate) fn difference(old: &Object, new: &Object) -> Object {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let mut patch: Object = gone.map(|name| (name.clone(), Value::Null)).collect();
    for (name, is) in new {
        match (old.get(name), is) {
            (Some(was), is) if was == is => {}
            (Some(Value::Object(was)), Value::Object(is)) => {
                patch.insert(name.clone(), Value::Object(difference(was, is)));
            }
            _ => drop(patch.insert(name.clone(), is.clone())),
        }
    }
    patch
}

/// RFC 7396 merge over checked members.
fn merge(target: &mut Object, patch: &Object) {
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            base::json::merge_patch(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Merges values, stamps metadata along every touched path, and raises the section's version. Returns the change as events
/// show it: the patch, with the metadata of what it touched.
fn merge_section(section: &mut Section, patch: &Object, now: Timestamp, with_version: bool) -> Value {
    section.version += 1;
    let stamp = Stamp { at: now.iso7(), version: with_version.then_some(section.version) };
    merge(&mut section.values, patch);
    stamp.merge(&mut section.metadata, patch);
    stamp.change(patch, section.version)
}

struct Stamp {
    at: String,
    version: Option<u64>,
}

impl Stamp {
    fn mark(&self, node: &mut Object) {
        node.insert("$lastUpdated".into(), self.at.clone().into());
        if let Some(version) = self.version {
            node.insert("$lastUpdatedVersion".into(), version.into());
        }
    }

    fn leaf(&self) -> Object {
        let mut node = Object::new();
        self.mark(&mut node);
        node
    }

    /// A patch as events show it.
    fn change(&self, patch: &Object, version: u64) -> Value {
        let mut touched = Object::new();
        self.merge(&mut touched, patch);
        let mut change = patch.clone();
        change.insert("$metadata".into(), Value::Object(touched));
        change.insert("$version".into(), json!(version));
        Value::Object(change)
    }

    /// Makes the metadata tree follow a merge of `patch`. User keys cannot begin with `$`, so stamps and children do not meet.
    fn merge(&self, metadata: &mut Object, patch: &Object) {
        self.mark(metadata);
        for (key, value) in patch {
            match value {
                Value::Null => {
                    metadata.shift_remove(key);
                }
                Value::Object(members) => {
                    let child = metadata.entry(key.clone()).or_insert_with(|| Value::Object(Object::new()));
                    if let Value::Object(child) = child {
                        self.merge(child, members);
                    }
                }
                _ => {
                    metadata.insert(key.clone(), Value::Object(self.leaf()));
                }
            }
        }
    }
}

pub(crate) fn without_nulls(members: &Object) -> Object {
    let keep = |(key, value): (&String, &Value)| match value {
        Value::Null => None,
        Value::Object(inner) => Some((key.clone(), Value::Object(without_nulls(inner)))),
        other => Some((key.clone(), other.clone())),
    };
    members.iter().filter_map(keep).collect()
}

/// Keys, values and depth of what a caller sends into a section.
pub fn check_members(members: &Object, section: &str) -> Result<(), Error> {
    members.iter().try_for_each(|(key, value)| {
        check_key(key, section)?;
        check_value(value, section, 1, false)
    })
}

/// `depth` is the number of levels above `value`; null is a deletion, except inside an array, where it means nothing.
fn check_value(value: &Value, section: &str, depth: usize, in_array: bool) -> Result<(), Error> {
    let nested = |value: &Value, in_array| {
        if depth > caps::TWIN_DEPTH_MAX {
            return Err(refused(
                section,
                &format!("it is nested deeper than {} levels", caps::TWIN_DEPTH_MAX),
            ));
        }
        check_value(value, section, depth + 1, in_array)
    };
    match value {
        Value::Null if in_array => Err(refused(section, "an array holds null")),
        Value::Number(number) => check_number(number, section),
        Value::String(text) if text.len() > caps::TWIN_STRING_BYTES_MAX => {
            Err(refused(section, &format!("a string is longer than {} bytes", caps::TWIN_STRING_BYTES_MAX)))
        }
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        // An empty one counts as a level, too.
        Value::Array(_) | Value::Object(_) if is_empty(value) => nested(&Value::Bool(true), false),
        Value::Array(items) => items.iter().try_for_each(|item| nested(item, true)),
        Value::Object(members) => members.iter().try_for_each(|(key, value)| {
            check_key(key, section)?;
            nested(value, in_array)
        }),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn check_number(number: &serde_json::Number, section: &str) -> Result<(), Error> {
    let in_range = match (number.as_i64(), number.is_u64()) {
        (Some(integer), _) => (caps::TWIN_INTEGER_MIN..=caps::TWIN_INTEGER_MAX).contains(&integer),
        (None, beyond_i64) => !beyond_i64,
    };
    if in_range {
        return Ok(());
    }
    let (min, max) = (caps::TWIN_INTEGER_MIN, caps::TWIN_INTEGER_MAX);
    Err(refused(section, &format!("the integer {number} is not between {min} and {max}")))
}

fn check_key(key: &str, section: &str) -> Result<(), Error> {
    if key.len() > caps::TWIN_KEY_BYTES_MAX {
        return Err(refused(section, &format!("a key is longer than {} bytes", caps::TWIN_KEY_BYTES_MAX)));
    }
    match key.chars().find(|c| c.is_control() || matches!(c, '.' | '$' | '#' | ' ')) {
        None => Ok(()),
        Some(c) => {
            Err(refused(section, &format!("the key '{}' holds the character {c:?}", key.escape_debug())))
        }
    }
}

pub(crate) fn check_size(members: &Object, max: usize, section: &str) -> Result<(), Error> {
    let bytes = size_bytes(members);
    if bytes > max {
        return Err(refused(section, &format!("its size of {bytes} bytes exceeds the limit of {max} bytes")));
    }
    if held_bytes(members) > max * caps::TWIN_UNCOUNTED_FACTOR_MAX {
        return Err(refused(section, "it holds too many empty values or control characters"));
    }
    Ok(())
}

fn refused(section: &str, why: &str) -> Error {
    not_valid(&format!(": '{section}': {why}"))
}

/// Azure's measure of a section: keys and strings in UTF-8 without control characters, 8 for a number, 4 for a boolean.
pub fn size_bytes(members: &Object) -> usize {
    members.iter().map(|(key, value)| key.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.chars().filter(|c| !c.is_control()).map(char::len_utf8).sum(),
        Value::Array(items) => items.iter().map(value_bytes).sum(),
        Value::Object(members) => size_bytes(members),
    }
}

/// About what a section takes, with everything that Azure's measure leaves out.
fn held_bytes(members: &Object) -> usize {
    fn of_value(value: &Value) -> usize {
        1 + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(of_value).sum(),
            Value::Object(members) => held_bytes(members),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
    }
    members.iter().map(|(key, value)| key.len() + of_value(value)).sum()
}
