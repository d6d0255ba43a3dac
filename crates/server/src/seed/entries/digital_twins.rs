//! Instances of Digital Twins and what is in them.

use std::path::{Path, PathBuf};

use ::digital_twins::{DigitalTwinId, Dtmi, EventRouteId, RelationshipId, model_issues};
use base::json::Object;
use base::{ConnectionString, Secret, Url};
use resource_manager::ResourceType;
use resource_manager::endpoint::{AuthenticationType, EndpointRequest, EndpointType};
use serde_json::{Map, Value, json};

use super::resources::{self, Place};
use super::{DEFAULT_TWINS, Entry};
use crate::seed::table::Table;

#[derive(Clone, Debug)]
pub(in crate::seed) struct Instance {
    pub(in crate::seed) name: String,
    pub(in crate::seed) place: Place,
}

impl Instance {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = resources::name(table, ResourceType::DigitalTwinsInstance);
        Some(Self { place: Place::read(table), name: name? })
    }
}

fn instance(table: &Table<'_>) -> String {
    table.text("instance").unwrap_or_else(|| DEFAULT_TWINS.to_owned())
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct Model {
    pub(in crate::seed) instance: String,
    pub(in crate::seed) id: Dtmi,
    pub(in crate::seed) definition: Value,
}

impl Model {
    /// Every model of every file that is named, held against the rules of DTDL together, as they will be uploaded.
    pub(super) fn read_all(table: &Table<'_>, folder: &Path) -> Vec<Entry<Self>> {
        let mut all = Vec::new();
        for table in table.tables("models", "models") {
            let instance = instance(&table);
            let definitions = definitions(&table, folder);
            table.end(&[]);
            for definition in definitions {
                let id = definition.get("@id").and_then(Value::as_str).and_then(|id| id.parse().ok());
                let Some(id) = id else {
                    table.fault("file", "a model has no `@id` that is a DTMI");
                    continue;
                };
                let name = format!("model \"{id}\"");
                let what = Self { instance: instance.clone(), id, definition };
                all.push(Entry { name, line: table.line, what });
            }
        }
        check_dtdl(table, &all);
        all
    }
}

/// The models of one entry: those of a file, of all `.json` files of a folder, or the one that stands in the seed.
fn definitions(table: &Table<'_>, folder: &Path) -> Vec<Value> {
    let definition = table.object("definition");
    let Some(file) = table.text("file") else {
        if definition.is_none() {
            table.fault("file", "`file` is missing, or `definition`");
        }
        return definition.map(Value::Object).into_iter().collect();
    };
    if definition.is_some() {
        table.fault("definition", "it is `file` or `definition`");
    }
    let mut all = Vec::new();
    for path in files(&folder.join(file)) {
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        match text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string())) {
            Ok(Value::Array(several)) => all.extend(several),
            Ok(one) => all.push(one),
            Err(why) => table.fault("file", format_args!("{}: {why}", path.display())),
        }
    }
    if all.is_empty() {
        table.fault("file", "there are no models");
    }
    all
}

fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let is_json = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_json).collect();
    files.sort();
    files
}

fn check_dtdl(table: &Table<'_>, all: &[Entry<Model>]) {
    let mut instances: Vec<&str> = all.iter().map(|model| model.what.instance.as_str()).collect();
    instances.sort_unstable();
    instances.dedup();
    for instance in instances {
        let own: Vec<&Entry<Model>> = all.iter().filter(|model| model.what.instance == instance).collect();
        let upload: Vec<&Value> = own.iter().map(|model| &model.what.definition).collect();
        for issue in model_issues(&serde_json::to_string(&upload).expect("it was JSON before")) {
            let model = issue.model.as_ref().map(ToString::to_string).unwrap_or_default();
            let line = own
                .iter()
                .find(|known| known.what.id.to_string() == model)
                .map_or(table.line, |own| own.line);
            table.faults().add(line, format!("model \"{model}\": {}", issue.message));
        }
    }
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct Twin {
    pub(in crate::seed) instance: String,
    pub(in crate::seed) id: DigitalTwinId,
    /// As it is put: `$metadata` with the model, properties, components.
    pub(in crate::seed) body: Object,
}

impl Twin {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let id: Option<DigitalTwinId> = table.required("id");
        if let Some(id) = &id {
            table.name(id);
        }
        let model: Option<Dtmi> = table.required("model");
        let mut body = table.object("properties").unwrap_or_default();
        for (name, members) in table.object("components").unwrap_or_default() {
            let Value::Object(mut members) = members else {
                table.fault("components", format_args!("the component `{name}` is a table"));
                continue;
            };
            members.insert("$metadata".to_owned(), json!({}));
            if body.insert(name.clone(), Value::Object(members)).is_some() {
                table.fault("components", format_args!("`{name}` is a property and a component"));
            }
        }
        let twin = Self { instance: instance(table), id: id?, body: Object::new() };
        body.insert("$metadata".to_owned(), json!({"$model": model?.to_string()}));
        Some(Self { body, ..twin })
    }
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct Relationship {
    pub(in crate::seed) instance: String,
    pub(in crate::seed) source: DigitalTwinId,
    pub(in crate::seed) id: RelationshipId,
    pub(in crate::seed) body: Object,
}

impl Relationship {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let id: Option<RelationshipId> = table.required("id");
        if let Some(id) = &id {
            table.name(id);
        }
        let (source, target, name) = (
            table.required::<DigitalTwinId>("source"),
            table.required::<DigitalTwinId>("target"),
            table.required::<String>("name"),
        );
        let mut body = table.object("properties").unwrap_or_default();
        let instance = instance(table);
        body.insert("$targetId".to_owned(), json!(target?.to_string()));
        body.insert("$relationshipName".to_owned(), json!(name?));
        Some(Self { instance, source: source?, id: id?, body })
    }
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct Endpoint {
    pub(in crate::seed) instance: String,
    pub(in crate::seed) name: String,
    pub(in crate::seed) leads_to: LeadsTo,
    pub(in crate::seed) dead_letter: Option<Secret>,
}

#[derive(Clone, Debug)]
pub(in crate::seed) enum LeadsTo {
    /// An event hub of this server: namespace and name. Its connection string is made when the seed is applied.
    EventHub {
        namespace: String,
        event_hub: String,
    },
    Elsewhere(Box<EndpointRequest>),
}

impl Endpoint {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = resources::name(table, ResourceType::DigitalTwinsEndpoint);
        let dead_letter = table.text("dead_letter").map(Secret::new);
        let instance = instance(table);
        let leads_to = LeadsTo::read(table);
        Some(Self { instance, name: name?, leads_to: leads_to?, dead_letter })
    }
}

impl LeadsTo {
    fn read(table: &Table<'_>) -> Option<Self> {
        let own = table.text("namespace").zip(table.text("event_hub"));
        let kinds = [
            ("EventHub", EndpointType::EventHub),
            ("ServiceBus", EndpointType::ServiceBus),
            ("EventGrid", EndpointType::EventGrid),
        ];
        let kind = table.choice("kind", &kinds);
        let [primary, secondary] =
            ["connection_string", "secondary_connection_string"].map(|name| bus(table, name));
        let [key, other_key] =
            ["access_key", "secondary_access_key"].map(|name| table.text(name).map(Secret::new));
        let topic_endpoint = table.text("topic_endpoint");
        match (own, kind) {
            (Some((namespace, event_hub)), None) if primary.is_none() && topic_endpoint.is_none() => {
                Some(Self::EventHub { namespace, event_hub })
            }
            (None, Some(endpoint_type)) => {
                let is_grid = endpoint_type == EndpointType::EventGrid;
                Some(Self::Elsewhere(Box::new(EndpointRequest {
                    primary: if is_grid { key } else { primary },
                    secondary: if is_grid { other_key } else { secondary },
                    topic_endpoint: topic_endpoint.map(Url::new),
                    ..keys(endpoint_type)
                })))
            }
            _ => {
                table.fault("name", "an endpoint leads to an event hub of this server (`namespace` and `event_hub`), or elsewhere (`kind` with `connection_string`, or `topic_endpoint` and `access_key`)");
                None
            }
        }
    }
}

/// A connection string, which is not repeated in a fault.
fn bus(table: &Table<'_>, name: &'static str) -> Option<Secret> {
    let text = table.text(name)?;
    if !ConnectionString::new(&*text).opens_entity() {
        table.fault(
            name,
            format_args!(
                "`{name}` needs Endpoint=sb://…, SharedAccessKeyName, SharedAccessKey and EntityPath"
            ),
        );
    }
    Some(Secret::new(text))
}

/// An endpoint by keys that are still to be said.
pub(in crate::seed) fn keys(endpoint_type: EndpointType) -> EndpointRequest {
    EndpointRequest {
        endpoint_type,
        authentication_type: AuthenticationType::KeyBased,
        primary: None,
        secondary: None,
        endpoint_uri: None,
        entity_path: None,
        topic_endpoint: None,
        dead_letter_secret: None,
        dead_letter_uri: None,
        identity: None,
    }
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct EventRoute {
    pub(in crate::seed) instance: String,
    pub(in crate::seed) id: EventRouteId,
    pub(in crate::seed) endpoint: String,
    pub(in crate::seed) filter: String,
}

impl EventRoute {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let id: Option<EventRouteId> = table.required("id");
        if let Some(id) = &id {
            table.name(id);
        }
        let endpoint: Option<String> = table.required("endpoint");
        let filter = table.text("filter").unwrap_or_else(|| "true".to_owned());
        Some(Self { instance: instance(table), id: id?, endpoint: endpoint?, filter })
    }
}

/// What a document of the store says beyond what the service itself adds.
pub(in crate::seed) fn said(document: &Object, model: Option<&str>) -> Object {
    let mut said: Map<String, Value> = Map::new();
    for (name, value) in document {
        match value {
            Value::Object(members) if !name.starts_with('$') && members.contains_key("$metadata") => {
                let mut members = members.clone();
                members.insert("$metadata".to_owned(), json!({}));
                said.insert(name.clone(), Value::Object(members));
            }
            _ if name.starts_with('$') && !["$targetId", "$relationshipName"].contains(&name.as_str()) => {}
            _ => {
                said.insert(name.clone(), value.clone());
            }
        }
    }
    if let Some(model) = model {
        said.insert("$metadata".to_owned(), json!({"$model": model}));
    }
    said
}
