//! Which configurations hold on a twin, and what the twin becomes by them (`iothub-service.md` §13). Of each desired property the
//! strongest one is in force, whoever writes the twin. Pure: values in, value out.

use std::collections::BTreeMap;

use base::ids::IdentityId;
use base::json::Object;
use base::{Timestamp, caps};
use query::hub::Condition;
use serde_json::{Value, json};

use super::record::{Configuration, ConfigurationId, Content, Held, Standing, Status};
use super::rules;
use crate::twin::rules::{self as twin_rules, Applied};
use crate::twin::{DeviceTwin, Section};

/// Names from the top of the desired properties down.
type Path = Vec<String>;

/// A configuration as it is asked of every twin.
struct Parsed {
    id: ConfigurationId,
    created: Timestamp,
    whose: Whose,
    condition: Option<Condition>,
    /// What it brings, down to what is no object.
    leaves: Vec<(Path, Value)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Devices,
    Modules,
    /// Devices that are of IoT Edge.
    EdgeDevices,
}

/// All configurations of a hub.
#[derive(Default)]
pub(crate) struct Set {
    /// The stronger ones later.
    in_order: Vec<Parsed>,
}

impl Parsed {
    /// One that cannot be read is for nobody; none is ever stored.
    fn new(configuration: &Configuration) -> Self {
        let Configuration { content, target_condition, .. } = configuration;
        let condition = rules::target(target_condition.as_deref(), content).ok().flatten();
        let (whose, keys) = match content {
            Content::DeviceContent(keys) => (Whose::Devices, Some(keys)),
            Content::ModuleContent(keys) => (Whose::Modules, Some(keys)),
            // What a deployment brings its modules only `apply_now` brings them.
            Content::ModulesContent(_) => (Whose::EdgeDevices, None),
        };
        let mut leaves = Vec::new();
        if let Some(desired) = keys.and_then(|keys| rules::desired(keys).ok()) {
            collect(&desired, &mut Vec::new(), &mut leaves);
        }
        Self { id: configuration.id.clone(), created: configuration.created, whose, condition, leaves }
    }

    fn takes(&self, id: &IdentityId, document: &Value, is_edge: bool) -> bool {
        let is_meant = match self.whose {
            Whose::Devices => id.module_id.is_none(),
            Whose::Modules => id.module_id.is_some(),
            Whose::EdgeDevices => id.module_id.is_none() && is_edge,
        };
        is_meant && self.condition.as_ref().is_some_and(|condition| condition.matches(document))
    }
}

fn collect(members: &Object, path: &mut Path, leaves: &mut Vec<(Path, Value)>) {
    for (name, value) in members {
        path.push(name.clone());
        match value {
            Value::Object(inner) if !inner.is_empty() => collect(inner, path, leaves),
            leaf => leaves.push((path.clone(), leaf.clone())),
        }
        path.pop();
    }
}

impl Set {
    pub(super) fn new<'c>(configurations: impl IntoIterator<Item = &'c Configuration>) -> Self {
        let mut all: Vec<&Configuration> = configurations.into_iter().collect();
        all.sort_by(|one, other| {
            let rank = |c: &Configuration| (c.priority, c.created);
            rank(one).cmp(&rank(other)).then_with(|| one.id.cmp(&other.id))
        });
        Self { in_order: all.into_iter().map(Parsed::new).collect() }
    }

    /// Whether a twin is as it would be if there had never been a configuration.
    pub(super) fn has_no_say(&self, twin: &DeviceTwin) -> bool {
        self.in_order.is_empty() && twin.configurations.is_empty() && twin.held.is_empty()
    }

    /// Then it matters which devices are of IoT Edge.
    pub(super) fn has_deployments(&self) -> bool {
        self.in_order.iter().any(|parsed| parsed.whose == Whose::EdgeDevices)
    }

    /// Not one that was made anew under the same id.
    fn has(&self, held: &Held) -> bool {
        self.in_order.iter().any(|parsed| parsed.id == held.by && parsed.created == held.created)
    }

    /// Makes a twin what the configurations say of it, as part of the change that it comes from; `old` is what its desired properties
    /// were before that. What would make it too large is not applied.
    pub(super) fn settle(&self, applied: &mut Applied, old: &Section, is_edge: bool, now: Timestamp) {
        let twin = &applied.twin;
        let document = document(twin);
        let takes = |parsed: &&Parsed| parsed.takes(&twin.identity, &document, is_edge);
        let (mut standings, mut force) = (BTreeMap::new(), Force::default());
        for parsed in self.in_order.iter().filter(takes) {
            standings.insert(parsed.id.clone(), Standing { status: Status::Targeted });
            force.lay(parsed);
        }
        let desired = &twin.properties.desired.values;
        let becomes = self.enforced(twin, &force);
        let fits =
            twin_rules::check_size(&becomes, caps::TWIN_DESIRED_BYTES_MAX, "properties.desired").is_ok();
        if !fits {
            applied.twin.configurations = standings;
            return;
        }
        let patch = twin_rules::difference(desired, &becomes);
        for (_, by) in force.0.values() {
            standings.insert(by.id.clone(), Standing { status: Status::Applied });
        }
        let held = force.0.iter().map(|(path, (_, by))| Held {
            path: path.clone(),
            by: by.id.clone(),
            created: by.created,
        });
        applied.twin.held = held.collect();
        applied.twin.configurations = standings;
        if !patch.is_empty() {
            applied.also_desire(old, &patch, now);
        }
    }

    /// Desired properties without what is in force no more, unless its configuration was deleted, and with what is.
    fn enforced(&self, twin: &DeviceTwin, force: &Force) -> Object {
        let mut desired = twin.properties.desired.values.clone();
        for held in twin.held.iter().filter(|held| !force.0.contains_key(&held.path) && self.has(held)) {
            take_out(&mut desired, &held.path);
        }
        for (path, (value, _)) in &force.0 {
            put_in(&mut desired, path, value);
        }
        desired
    }
}

/// What is in force, and by whom. No path lies below another.
#[derive(Default)]
struct Force<'s>(BTreeMap<Path, (&'s Value, &'s Parsed)>);

impl<'s> Force<'s> {
    /// Over whatever weaker ones have laid.
    fn lay(&mut self, parsed: &'s Parsed) {
        for (path, value) in &parsed.leaves {
            let has_members = self.0.keys().any(|other| other.len() > path.len() && other.starts_with(path));
            if has_members && is_empty_object(value) {
                continue;
            }
            self.0.retain(|other, _| !other.starts_with(path) && !path.starts_with(other));
            self.0.insert(path.clone(), (value, parsed));
        }
    }
}

fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(Object::is_empty)
}

/// And the objects above it that are empty then. An object that has got members since is no more what was put there.
fn take_out(members: &mut Object, path: &[String]) {
    let Some((name, below)) = path.split_first() else { return };
    let is_gone = match members.get_mut(name) {
        Some(Value::Object(inner)) if !below.is_empty() => {
            take_out(inner, below);
            inner.is_empty()
        }
        Some(value) => below.is_empty() && (!value.is_object() || is_empty_object(value)),
        None => false,
    };
    if is_gone {
        members.shift_remove(name);
    }
}

fn put_in(members: &mut Object, path: &[String], value: &Value) {
    let Some((name, below)) = path.split_first() else { return };
    let here = members.entry(name.clone()).or_insert(Value::Null);
    if below.is_empty() {
        if !(is_empty_object(value) && here.is_object()) {
            here.clone_from(value);
        }
        return;
    }
    if !here.is_object() {
        *here = Value::Object(Object::new());
    }
    put_in(here.as_object_mut().expect("it was made one"), below, value);
}

/// What conditions may look at.
fn document(twin: &DeviceTwin) -> Value {
    let reported = twin.properties.reported.with_metadata();
    let mut document = json!({
        "deviceId": twin.identity.device_id,
        "tags": twin.tags,
        "properties": {"reported": reported},
    });
    if let Some(module_id) = &twin.identity.module_id {
        document["moduleId"] = json!(module_id);
    }
    document
}
