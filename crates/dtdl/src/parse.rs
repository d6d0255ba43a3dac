//! The last steps of a parse, once every document is read: checks between elements, then models, then their total size and
//! what identifiers they define together.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    Commands, Dtmi, Issue, Model,
    build::Builder,
    element::{Id, Reader},
    family::Weights,
    resolved::{self, Known},
    vocabulary::classes::{Class, language},
};

pub(crate) fn finish(mut reader: Reader, known: &Known) -> Result<Vec<Model>, Vec<Issue>> {
    reader.check(known);
    reader.check_families(known);
    refuse_commands(&mut reader);
    if !reader.issues.is_empty() {
        return Err(reader.issues.into_sorted());
    }
    let models: Vec<Arc<Model>> = Builder::new(&reader).models().into_iter().map(Arc::new).collect();
    let by_id: HashMap<&Dtmi, &Arc<Model>> = models.iter().map(|model| (&model.id, model)).collect();
    let lookup = |id: &Dtmi| by_id.get(id).copied().cloned().or_else(|| known(id));
    check_weights(&mut reader, &lookup);
    check_identifiers(&mut reader, &lookup);
    if !reader.issues.is_empty() {
        return Err(reader.issues.into_sorted());
    }
    Ok(models.into_iter().map(Arc::unwrap_or_clone).collect())
}

fn refuse_commands(reader: &mut Reader) {
    if reader.options.commands == Commands::Accept {
        return;
    }
    for id in 0..reader.elements.len() {
        if reader.elements[id].class == Class::Command {
            let outer = reader.issues.enter(reader.interface_id(id));
            let place = reader.elements[id].place.clone();
            reader.issues.add(&place, "commandNotSupported", "commands are not supported here");
            reader.issues.enter(outer);
        }
    }
}

fn check_weights(reader: &mut Reader, lookup: &Known) {
    let weights = Weights::new(lookup);
    for id in 0..reader.elements.len() {
        let Some(max) = language(reader.elements[id].context.version).elements_max else { continue };
        let Some(dtmi) = interface(reader, id) else { continue };
        let weight = weights.of(&dtmi);
        if weight > max {
            let message = format!("{weight} elements in all; {max} are allowed");
            tell(reader, id, dtmi, "excessiveCount", message);
        }
    }
}

/// An interface and all that it extends or contains define an identifier once. Interfaces that have nothing to do with each
/// other may share one, as the versions of a published interface do, unless they come in one call.
fn check_identifiers(reader: &mut Reader, lookup: &Known) {
    for id in 0..reader.elements.len() {
        let Some(dtmi) = interface(reader, id) else { continue };
        let closure = closure(&dtmi, lookup);
        let mut owners: HashMap<&Dtmi, &Dtmi> = HashMap::new();
        let mut defined = closure
            .iter()
            .flat_map(|model| std::iter::once(&model.id).chain(&model.inner_ids).map(|id| (id, &model.id)));
        let repeated = defined.find_map(|(id, owner)| Some((id, owner, owners.insert(id, owner)?)));
        if let Some((identifier, owner, other)) = repeated {
            let message = format!("'{identifier}' is defined more than once, in {other} and in {owner}");
            tell(reader, id, dtmi, "duplicateDefinition", message);
        }
    }
}

/// The interface and all that it extends or contains, each once.
fn closure(id: &Dtmi, lookup: &Known) -> Vec<Arc<Model>> {
    let mut found = resolved::ancestors(id, lookup);
    let mut seen: HashSet<Dtmi> = found.iter().map(|model| model.id.clone()).collect();
    let components: Vec<Dtmi> = found.iter().flat_map(|model| model.components()).cloned().collect();
    let inner = components.iter().flat_map(|component| resolved::ancestors(component, lookup));
    let inner: Vec<_> = inner.filter(|model| seen.insert(model.id.clone())).collect();
    found.extend(inner);
    found
}

fn interface(reader: &Reader, id: Id) -> Option<Dtmi> {
    let element = &reader.elements[id];
    element.id.clone().filter(|_| element.class == Class::Interface)
}

fn tell(reader: &mut Reader, id: Id, interface: Dtmi, rule: &'static str, message: String) {
    let place = reader.elements[id].place.clone();
    let outer = reader.issues.enter(Some(interface));
    reader.issues.add(&place, rule, message);
    reader.issues.enter(outer);
}
