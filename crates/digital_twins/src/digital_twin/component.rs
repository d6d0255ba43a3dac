//! Components of a digital twin, each addressed on its own. They share the twin's etag and are patched through it.
//! Called by the doors.

use access::{Caller, Permission};
use base::json::Object;
use base::{IfMatch, Meter};
use store::retry_on_conflict;

use super::check;
use crate::json_patch::{Operation, PatchError};
use crate::{DigitalTwin, DigitalTwinId, Error, Instance};

/// A component as it is read, with the etag of its twin.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    pub etag: String,
    pub document: Object,
}

impl Instance {
    /// `DigitalTwins_GetComponent`.
    pub async fn get_component(
        &self,
        caller: &Caller,
        id: &DigitalTwinId,
        name: &str,
    ) -> Result<Component, Error> {
        caller.require(Permission::DigitalTwinRead, self.scope())?;
        self.charge(Meter::DigitalTwinRead)?;
        let twin = self.digital_twin(id).await?.record;
        let document = twin.component(name).ok_or_else(|| not_found(id, name))?;
        Ok(Component { etag: twin.etag().to_owned(), document: document.clone() })
    }

    /// `DigitalTwins_UpdateComponent`: the paths of the patch start at the component.
    pub async fn update_component(
        &self,
        caller: &Caller,
        id: &DigitalTwinId,
        name: &str,
        patch: &[Operation],
        if_match: &IfMatch,
    ) -> Result<DigitalTwin, Error> {
        caller.require(Permission::DigitalTwinWrite, self.scope())?;
        self.charge(Meter::DigitalTwinWrite)?;
        let patch = below(name, patch)?;
        retry_on_conflict(async || {
            let old = self.digital_twin(id).await?;
            check(if_match, old.record.etag())?;
            if old.record.component(name).is_none() {
                let first = patch.first().map_or_else(|| format!("/{name}"), |first| first.path.to_string());
                return Err(PatchError::Unresolved(first).into());
            }
            self.patch_digital_twin(&old, &patch).await
        })
        .await
    }
}

pub(crate) fn not_found(id: &DigitalTwinId, name: &str) -> Error {
    Error::ComponentNotFound { twin: id.to_string(), component: name.to_owned() }
}

/// The same patch as the twin sees it. The component as a whole is not the component's to replace.
fn below(name: &str, patch: &[Operation]) -> Result<Vec<Operation>, PatchError> {
    let moved = |operation: &Operation| {
        if operation.path.segments().is_empty() {
            return Err(PatchError::Forbidden(format!("/{name}")));
        }
        Ok(Operation { path: operation.path.below(name), action: operation.action.clone() })
    };
    patch.iter().map(moved).collect()
}
