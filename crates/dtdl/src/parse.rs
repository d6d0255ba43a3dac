//! The last steps of a parse, once every document is read: checks between elements, then models, then their total size.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Commands, Dtmi, Issue, Model,
    build::Builder,
    element::Reader,
    family::Weights,
    resolved::Known,
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
    check_weights(&mut reader, &models, known);
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

fn check_weights(reader: &mut Reader, models: &[Arc<Model>], known: &Known) {
    let models: HashMap<&Dtmi, &Arc<Model>> = models.iter().map(|model| (&model.id, model)).collect();
    let lookup = |id: &Dtmi| models.get(id).copied().cloned().or_else(|| known(id));
    let weights = Weights::new(&lookup);
    for id in 0..reader.elements.len() {
        let element = &reader.elements[id];
        let Some(max) = language(element.context.version).elements_max else { continue };
        let Some(dtmi) = element.id.clone().filter(|_| element.class == Class::Interface) else { continue };
        let weight = weights.of(&dtmi);
        if weight > max {
            let place = element.place.clone();
            let outer = reader.issues.enter(Some(dtmi));
            reader.issues.add(
                &place,
                "excessiveCount",
                format!("{weight} elements in all; {max} are allowed"),
            );
            reader.issues.enter(outer);
        }
    }
}
