//! What a configuration may be: its content, whom it is for, its metrics. Pure: values in, value out.

use std::collections::BTreeMap;

use base::json::Object;
use base::{ModuleId, caps};
use query::hub::{Condition, Property, Select, Source};
use serde_json::Value;

use super::record::{Configuration, Content};
use super::{ConfigurationSpec, ContentSpec};
use crate::error::Error;
use crate::twin::rules as twin_rules;

const DESIRED: &str = "properties.desired";
pub(super) const EDGE_AGENT: &str = "$edgeAgent";

/// A spec's content, if the rest of it may be too.
pub(super) fn check(spec: &ConfigurationSpec) -> Result<Content, Error> {
    if spec.priority < 0 {
        return Err(Error::invalid("priority must not be negative."));
    }
    let content = content(&spec.content)?;
    target(spec.target_condition.as_deref(), &content)?;
    check_metrics(&spec.metrics)?;
    Ok(content)
}

/// Exactly one kind. Clients send others along that are empty.
pub(super) fn content(spec: &ContentSpec) -> Result<Content, Error> {
    let kinds = [
        spec.device.clone().map(Content::DeviceContent),
        spec.module.clone().map(Content::ModuleContent),
        spec.modules.clone().map(Content::ModulesContent),
    ];
    let is_empty = |content: &Content| match content {
        Content::DeviceContent(members)
        | Content::ModuleContent(members)
        | Content::ModulesContent(members) => members.is_empty(),
    };
    let (empty, filled): (Vec<_>, Vec<_>) = kinds.into_iter().flatten().partition(is_empty);
    let (is_mixed, first) = (filled.len() > 1, filled.into_iter().chain(empty).next());
    let content = first.filter(|_| !is_mixed).ok_or_else(|| {
        refused("exactly one of deviceContent, moduleContent and modulesContent must be given")
    })?;
    match &content {
        Content::DeviceContent(keys) | Content::ModuleContent(keys) => drop(desired(keys)?),
        Content::ModulesContent(modules) => drop(by_module(modules)?),
    }
    Ok(content)
}

/// The desired properties that a content's keys stand for. A null is nothing, as in a PUT of a twin.
pub(super) fn desired(keys: &Object) -> Result<Object, Error> {
    let mut desired = Object::new();
    for (key, value) in keys {
        put(&mut desired, &path(key)?, value.clone(), key)?;
    }
    checked(&twin_rules::without_nulls(&desired))
}

/// Desired properties as a content leaves them, which replaces all of them where it says so.
pub(super) fn laid_over(current: &Object, keys: &Object) -> Result<Object, Error> {
    let mut desired = if keys.contains_key(DESIRED) { Object::new() } else { current.clone() };
    for (key, value) in keys {
        put(&mut desired, &path(key)?, value.clone(), key)?;
    }
    checked(&twin_rules::without_nulls(&desired))
}

fn checked(desired: &Object) -> Result<Object, Error> {
    twin_rules::check_section(desired, caps::TWIN_DESIRED_BYTES_MAX, DESIRED)
        .map_err(|error| refused(&error.to_string()))?;
    Ok(desired.clone())
}

/// The names below the desired properties; none are all of them.
fn path(key: &str) -> Result<Vec<&str>, Error> {
    let rest = key.strip_prefix(DESIRED);
    let names = rest.and_then(|rest| if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') });
    match names {
        Some("") if key == DESIRED => Ok(Vec::new()),
        Some(names) if names.split('.').all(|name| !name.is_empty()) => Ok(names.split('.').collect()),
        _ => Err(refused(&format!(
            "'{key}' is no key of a content; it must be '{DESIRED}' or a path below it"
        ))),
    }
}

fn put(desired: &mut Object, path: &[&str], value: Value, key: &str) -> Result<(), Error> {
    let Some((last, above)) = path.split_last() else {
        let Value::Object(members) = value else {
            return Err(refused(&format!("'{key}' must be an object")));
        };
        desired.extend(members);
        return Ok(());
    };
    let mut here = desired;
    for name in above {
        let child = here.entry((*name).to_owned()).or_insert(Value::Null);
        if !child.is_object() {
            *child = Value::Object(Object::new());
        }
        here = child.as_object_mut().expect("it was made one");
    }
    here.insert((*last).to_owned(), value);
    Ok(())
}

/// The contents of a deployment.
pub(super) fn by_module(modules: &Object) -> Result<Vec<(ModuleId, &Object)>, Error> {
    if !modules.contains_key(EDGE_AGENT) {
        return Err(refused("modulesContent must have a member '$edgeAgent'"));
    }
    let module = |(name, content): (&String, &'_ Value)| {
        let id: ModuleId = name.parse().map_err(|error: base::ids::InvalidId| refused(&error.to_string()))?;
        let keys = content.as_object().ok_or_else(|| refused(&format!("'{name}' must be an object")))?;
        desired(keys)?;
        Ok::<_, Error>(id)
    };
    let ids = modules.iter().map(module).collect::<Result<Vec<_>, _>>()?;
    Ok(ids.into_iter().zip(modules.values().filter_map(Value::as_object)).collect())
}

/// The modules that a deployment has its agent start.
pub(super) fn started_modules(modules: &Object) -> Result<Vec<ModuleId>, Error> {
    let Some(agent) = modules.get(EDGE_AGENT).and_then(Value::as_object) else { return Ok(Vec::new()) };
    let desired = desired(agent)?;
    let started = desired.get("modules").and_then(Value::as_object);
    let ids = started.into_iter().flat_map(Object::keys).map(|name| name.parse());
    ids.collect::<Result<_, _>>().map_err(|error: base::ids::InvalidId| refused(&error.to_string()))
}

fn refused(why: &str) -> Error {
    Error::InvalidConfigurationContent(format!("The content of the configuration is not valid: {why}."))
}

/// Whose twins a configuration is for; nobody's without a condition.
pub(super) fn target(text: Option<&str>, content: &Content) -> Result<Option<Condition>, Error> {
    let wanted = match content {
        Content::ModuleContent(_) => Source::Modules,
        Content::DeviceContent(_) | Content::ModulesContent(_) => Source::Devices,
    };
    let text = match text.map(str::trim) {
        None | Some("") => return Ok(None),
        Some("*") if wanted == Source::Modules => "FROM devices.modules",
        Some(text) => text,
    };
    let condition = condition(text)?;
    if condition.source() != wanted {
        return Err(Error::InvalidConfigurationTargetCondition(format!(
            "The content is for twins of {wanted}, and targetCondition selects those of {}.",
            condition.source()
        )));
    }
    Ok(Some(condition))
}

/// What a condition may look at is what a twin's own record has, so that a change of it is enough to know.
pub(super) fn condition(text: &str) -> Result<Condition, Error> {
    let wrong = Error::InvalidConfigurationTargetCondition;
    let condition =
        Condition::parse(text).map_err(|error| wrong(format!("targetCondition cannot be read: {error}")))?;
    let may_be = |property: &Property| {
        let path: Vec<&str> = property.path().iter().map(String::as_str).collect();
        matches!(path[..], ["deviceId" | "moduleId"] | ["tags", ..] | ["properties", "reported", ..])
    };
    match condition.properties().into_iter().find(|property| !may_be(property)) {
        None => Ok(condition),
        Some(property) => Err(wrong(format!(
            "targetCondition may look at deviceId, moduleId, tags and properties.reported, not at {property}."
        ))),
    }
}

fn check_metrics(metrics: &BTreeMap<String, String>) -> Result<(), Error> {
    if metrics.len() > caps::CONFIGURATION_METRICS_MAX {
        let max = caps::CONFIGURATION_METRICS_MAX;
        let why = format!("A configuration may have {max} metrics, and this one has {}.", metrics.len());
        return Err(Error::InvalidConfigurationCustomMetricsQuery(why));
    }
    for (name, text) in metrics {
        metric(text).map_err(|why| {
            Error::InvalidConfigurationCustomMetricsQuery(format!("The metric '{name}': {why}"))
        })?;
    }
    Ok(())
}

pub(super) fn metric(text: &str) -> Result<Select, String> {
    let select = Select::parse(text).map_err(|error| error.to_string())?;
    if select.is_explained() || select.source() == Source::Jobs {
        return Err("a metric is a query of devices or of devices.modules".to_owned());
    }
    Ok(select)
}

/// The queries behind the counts that the hub keeps itself, by the names of these.
pub(super) fn system_queries(configuration: &Configuration) -> Vec<(&'static str, String)> {
    let Configuration { id, content, target_condition, .. } = configuration;
    let status = format!("configurations.[[{id}]].status");
    let applied = format!("{status} = 'Applied'");
    let source = if matches!(content, Content::ModuleContent(_)) { Source::Modules } else { Source::Devices };
    let text = target_condition.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let targeted = match (text, content) {
        // Nobody is targeted.
        (None, _) => format!("select deviceId from devices where {status} = 'Targeted'"),
        (Some(text), Content::ModulesContent(_)) => {
            let edge = clause(text).map_or_else(String::new, |clause| format!(" and ({clause})"));
            format!("select deviceId from devices where capabilities.iotEdge = true{edge}")
        }
        (Some(text), _) => {
            let clause = clause(text).map_or_else(String::new, |clause| format!(" where {clause}"));
            format!("select deviceId{} from {source}{clause}", module_id(content))
        }
    };
    let agent = format!("select deviceId from devices.modules where moduleId = '{EDGE_AGENT}' and {applied}");
    let reported = |comparison: &str| {
        format!(
            "{agent} and properties.desired.$version = properties.reported.lastDesiredVersion \
             and properties.reported.lastDesiredStatus.code {comparison} 200"
        )
    };
    if content.is_deployment() {
        return vec![
            ("targetedCount", targeted),
            ("appliedCount", agent.clone()),
            ("reportedSuccessfulCount", reported("=")),
            ("reportedFailedCount", reported("!=")),
        ];
    }
    let applied = format!("select deviceId{} from {source} where {applied}", module_id(content));
    vec![("targetedCount", targeted), ("appliedCount", applied)]
}

/// A condition that can be read as it was written, without its source; nothing where it is true of all.
fn clause(text: &str) -> Option<&str> {
    let has_source = text.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("from"))
        && text[4..].starts_with(char::is_whitespace);
    if !has_source {
        return (text != "*").then_some(text);
    }
    let at = text.to_ascii_lowercase().find("where")?;
    Some(text[at + "where".len()..].trim_start())
}

fn module_id(content: &Content) -> &'static str {
    if matches!(content, Content::ModuleContent(_)) { ", moduleId" } else { "" }
}
