//! A device twin seen through IoT Plug and Play: properties and components of the model that the device announced, and its commands
//! (`iothub-service.md` §14). Nothing is stored beside the device twin, and a command is a direct method.

mod patch;
#[cfg(test)]
mod tests;
mod view;

use access::{Caller, Permission};
use base::ids::IdentityId;
use base::json::Object;
use base::json_patch::Operation;
use base::{DeviceId, IfMatch, Meter};
use store::retry_on_conflict;

use crate::direct_method::{MethodRequest, MethodResponse};
use crate::error::Error;
use crate::hub::Hub;
use crate::twin::{Change, DeviceTwin, TwinEtag, TwinPatch};

/// A digital twin as it is shown, with the tag of the device twin that it is a view of.
#[derive(Clone, Debug, PartialEq)]
pub struct DigitalTwinView {
    pub document: Object,
    pub etag: TwinEtag,
}

impl From<&DeviceTwin> for DigitalTwinView {
    fn from(twin: &DeviceTwin) -> Self {
        Self { document: view::document(twin), etag: twin.etag }
    }
}

impl Hub {
    /// `DigitalTwin_GetDigitalTwin`.
    pub async fn get_digital_twin(&self, caller: &Caller, id: &DeviceId) -> Result<DigitalTwinView, Error> {
        let done = async {
            caller.require(Permission::TwinRead, self.scope())?;
            self.charge(Meter::TwinRead)?;
            let twin = self.twin(&IdentityId::device(id.clone())).await?;
            Ok(DigitalTwinView::from(&twin.record))
        };
        self.measures().twin_reads_by_services.note(done.await)
    }

    /// `DigitalTwin_UpdateDigitalTwin`: writes desired properties. Answers with the twin's new tag.
    pub async fn update_digital_twin(
        &self,
        caller: &Caller,
        id: &DeviceId,
        operations: &[Operation],
        if_match: &IfMatch,
    ) -> Result<TwinEtag, Error> {
        let done = async {
            caller.require(Permission::TwinWrite, self.scope())?;
            self.charge(Meter::TwinUpdate)?;
            let id = IdentityId::device(id.clone());
            retry_on_conflict(async || {
                let old = self.twin_if(&id, if_match).await?;
                let desired = Change::Merge(patch::desired(&old.record, operations)?);
                let patch = TwinPatch { tags: Change::Keep, desired };
                Ok(self.apply_patch(old, &patch).await?.etag)
            })
            .await
        };
        self.measures().twin_updates_by_services.note(done.await)
    }

    /// `DigitalTwin_InvokeRootLevelCommand`, `DigitalTwin_InvokeComponentCommand`. The device hears a direct method; one of a component
    /// is named `{component}*{command}`. Principals may invoke methods, but the service lets none of them invoke a command.
    pub async fn invoke_command(
        &self,
        caller: &Caller,
        id: &DeviceId,
        component: Option<&str>,
        mut request: MethodRequest,
    ) -> Result<MethodResponse, Error> {
        if caller.is_principal() {
            return Err(Error::IotHubUnauthorizedAccess);
        }
        if let Some(component) = component {
            request.name = format!("{component}*{}", request.name);
        }
        self.invoke_method(caller, &IdentityId::device(id.clone()), request).await
    }
}
