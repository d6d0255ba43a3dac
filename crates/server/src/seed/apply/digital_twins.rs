//! Models, digital twins and their relationships.

use base::IfNoneMatch;
use base::caps;
use bytes::Bytes;
use digital_twins::Error;
use serde_json::Value;

use super::{Ground, NotApplied, Outcome, Run, caller};
use crate::Failure;
use crate::seed::entries::Entry;
use crate::seed::entries::digital_twins::{Model, Relationship, Twin, said};

/// Models that come to one instance in one call, since they may need each other.
pub(super) struct Upload {
    instance: String,
    definitions: Vec<Value>,
}

/// The models that are not there yet. One that is must be the same: models do not change.
pub(super) async fn uploads(
    ground: &Ground,
    models: &[Entry<Model>],
    run: &mut Run<'_>,
) -> Result<Vec<Entry<Upload>>, NotApplied> {
    let mut uploads: Vec<Entry<Upload>> = Vec::new();
    for entry in models {
        let is_there = is_there(ground, &entry.what).await.map_err(|why| run.not_applied(entry, &*why))?;
        if is_there {
            run.count(Outcome::Kept);
            continue;
        }
        run.count(Outcome::Made);
        let has_room = |upload: &&mut Entry<Upload>| {
            let upload = &upload.what;
            upload.instance == entry.what.instance && upload.definitions.len() < caps::MODELS_PER_CALL_MAX
        };
        match uploads.iter_mut().find(has_room) {
            Some(upload) => upload.what.definitions.push(entry.what.definition.clone()),
            None => uploads.push(Entry {
                name: format!("models of \"{}\"", entry.what.instance),
                line: entry.line,
                what: Upload {
                    instance: entry.what.instance.clone(),
                    definitions: vec![entry.what.definition.clone()],
                },
            }),
        }
    }
    Ok(uploads)
}

async fn is_there(ground: &Ground, model: &Model) -> Result<bool, Failure> {
    let instance = ground.instance(&model.instance)?;
    match instance.get_model(&caller(), &model.id, true).await {
        Ok(known) if known.definition.as_ref() == Some(&model.definition) => Ok(true),
        Ok(_) => Err("a model of this id and of another text is there, and models do not change. \
                      Give the new one a higher version"
            .into()),
        Err(Error::ModelNotFound(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Its models were counted already.
pub(super) async fn upload(ground: &Ground, upload: &Upload) -> Result<(), Failure> {
    let body = serde_json::to_vec(&upload.definitions)?;
    ground.instance(&upload.instance)?.create_models(&caller(), Bytes::from(body)).await?;
    Ok(())
}

pub(super) async fn twin(ground: &Ground, twin: &Twin) -> Result<Outcome, Failure> {
    let instance = ground.instance(&twin.instance)?;
    let outcome = match instance.get_digital_twin(&caller(), &twin.id).await {
        Ok(old) if said(old.document(), Some(old.model())) == twin.body => return Ok(Outcome::Kept),
        Ok(_) => Outcome::Changed,
        Err(Error::DigitalTwinNotFound(_)) => Outcome::Made,
        Err(error) => return Err(error.into()),
    };
    instance
        .put_digital_twin(&caller(), &twin.id, &twin.body, &IfNoneMatch::Absent)
        .await
        .map_err(|error| told(&error))?;
    Ok(outcome)
}

pub(super) async fn relationship(ground: &Ground, edge: &Relationship) -> Result<Outcome, Failure> {
    let instance = ground.instance(&edge.instance)?;
    let outcome = match instance.get_relationship(&caller(), &edge.source, &edge.id).await {
        Ok(old) if said(old.document(), None) == edge.body => return Ok(Outcome::Kept),
        Ok(_) => Outcome::Changed,
        Err(Error::RelationshipNotFound { .. }) => Outcome::Made,
        Err(error) => return Err(error.into()),
    };
    let at = (&edge.source, &edge.id);
    instance
        .put_relationship(&caller(), at, &edge.body, &IfNoneMatch::Absent)
        .await
        .map_err(|error| told(&error))?;
    Ok(outcome)
}

/// With what the service tells beside its message.
fn told(error: &Error) -> Failure {
    match error.details() {
        [] => error.to_string().into(),
        details => format!("{error} {}", details.join(" ")).into(),
    }
}
