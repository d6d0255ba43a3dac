//! What a device of a DTDL model says and does: its telemetry, properties and commands, its own and those of its components.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use dtdl::{About, Content, Dtmi, Model, Options, Resolved, Schema};

use super::values::Range;

/// One of the interfaces that a device is made of.
pub(super) struct Part {
    /// `None`: the device itself.
    pub(super) component: Option<String>,
    pub(super) telemetry: Vec<Element>,
    pub(super) properties: Vec<Property>,
    pub(super) commands: Vec<Command>,
}

/// Something with a name that has values.
pub(super) struct Element {
    pub(super) name: String,
    pub(super) schema: Arc<Schema>,
    pub(super) range: Range,
}

pub(super) struct Property {
    pub(super) element: Element,
    pub(super) is_writable: bool,
}

pub(super) struct Command {
    pub(super) name: String,
    pub(super) request: Option<Arc<Schema>>,
    pub(super) response: Option<Element>,
}

/// What every device of a simulation is.
pub struct DeviceModel {
    id: Option<Dtmi>,
    pub(super) parts: Vec<Part>,
    others: Vec<Dtmi>,
}

impl DeviceModel {
    /// A thermometer that knows no model: it takes every desired property and answers every method.
    pub fn plain() -> Self {
        let element = |name: &str, schema: Schema| Element {
            name: name.to_owned(),
            schema: Arc::new(schema),
            range: Range::of(name, &About::default()),
        };
        let telemetry = ["temperature", "humidity"].map(|name| element(name, Schema::Double)).into();
        let uptime = Property { element: element("battery", Schema::Integer), is_writable: false };
        let own = Part { component: None, telemetry, properties: vec![uptime], commands: Vec::new() };
        Self { id: None, parts: vec![own], others: Vec::new() }
    }

    /// The model `id` of a text with one interface or a list of them; unless told, the first that no other one extends or has as a
    /// component. The errors are one issue a line.
    pub fn read(text: &str, id: Option<&str>) -> Result<Self, String> {
        let models = dtdl::parse_text(text, &|_| None, &Options::language())
            .map_err(|issues| issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        let order: Vec<Dtmi> = models.iter().map(|model| model.id.clone()).collect();
        let models: BTreeMap<Dtmi, Arc<Model>> =
            models.into_iter().map(|model| (model.id.clone(), Arc::new(model))).collect();
        let used: HashSet<&Dtmi> =
            models.values().flat_map(|model| model.extends.iter().chain(model.components())).collect();
        let tops: Vec<&Dtmi> = order.iter().filter(|id| !used.contains(id)).collect();
        let chosen = match id {
            Some(wanted) => order.iter().find(|id| id.as_str() == wanted),
            None => tops.first().copied(),
        };
        let list = || order.iter().map(Dtmi::as_str).collect::<Vec<_>>().join(", ");
        let chosen = chosen.ok_or_else(|| match id {
            Some(id) => format!("there is no interface {id}; there are {}", list()),
            None => "there is no interface that is not part of another one".to_owned(),
        })?;
        let others = tops.iter().filter(|id| **id != chosen).map(|id| (*id).clone()).collect();
        let mut model = Self { id: Some(chosen.clone()), parts: parts(chosen, &models)?, others };
        model.speak_of_properties();
        if model.parts.iter().all(|part| part.telemetry.is_empty()) {
            return Err(format!(
                "{chosen} has neither Telemetry nor Property: its devices would have nothing to say"
            ));
        }
        Ok(model)
    }

    pub fn id(&self) -> Option<&str> {
        self.id.as_ref().map(Dtmi::as_str)
    }

    /// Interfaces of the text that devices could be of as well.
    pub fn others(&self) -> &[Dtmi] {
        &self.others
    }

    /// Models of digital twins often have no Telemetry: then messages carry the properties that they feed.
    fn speak_of_properties(&mut self) {
        if self.parts.iter().any(|part| !part.telemetry.is_empty()) {
            return;
        }
        for part in &mut self.parts {
            let (writable, fed): (Vec<_>, Vec<_>) =
                std::mem::take(&mut part.properties).into_iter().partition(|property| property.is_writable);
            part.properties = writable;
            part.telemetry = fed.into_iter().map(|property| property.element).collect();
        }
    }
}

/// The interface itself and those of its components; components have none of their own (IoT Plug and Play).
fn parts(id: &Dtmi, models: &BTreeMap<Dtmi, Arc<Model>>) -> Result<Vec<Part>, String> {
    let known = |id: &Dtmi| models.get(id).cloned();
    let resolve =
        |id: &Dtmi| Resolved::new(id, &known).ok_or_else(|| format!("{id} is not among the models"));
    let own = resolve(id)?;
    let mut parts = vec![part(None, &own)];
    for component in own.components() {
        parts.push(part(Some(component.name.clone()), &resolve(&component.schema)?));
    }
    Ok(parts)
}

fn part(component: Option<String>, interface: &Resolved) -> Part {
    let mut part = Part { component, telemetry: Vec::new(), properties: Vec::new(), commands: Vec::new() };
    let element = |name: &str, about: &About, schema: &Arc<Schema>| Element {
        name: name.to_owned(),
        schema: schema.clone(),
        range: Range::of(name, about),
    };
    for (_, content) in interface.contents() {
        match content {
            Content::Telemetry(telemetry) => {
                part.telemetry.push(element(&telemetry.name, &telemetry.about, &telemetry.schema));
            }
            Content::Property(property) => part.properties.push(Property {
                element: element(&property.name, &property.about, &property.schema),
                is_writable: property.writable,
            }),
            Content::Command(command) => part.commands.push(Command {
                name: command.name.clone(),
                request: command.request.as_ref().map(|request| request.schema.clone()),
                response: command
                    .response
                    .as_ref()
                    .map(|response| element(&response.name, &response.about, &response.schema)),
            }),
            Content::Component(_) | Content::Relationship(_) => {}
        }
    }
    part
}
