//! A content for one device, at once and once (`iothub-service.md` §13): no configuration is made, and nothing is remembered of it.
//! Every step may be done again, so whoever was cut off asks once more.

use access::{Caller, Permission};
use base::ids::IdentityId;
use base::json::Object;
use base::{DeviceId, IfMatch, Meter, ModuleId};
use store::retry_on_conflict;

use super::record::Content;
use super::{ContentSpec, rules};
use crate::device::{AuthenticationSpec, Expected, ModuleSpec};
use crate::error::Error;
use crate::hub::Hub;
use crate::twin::rules::InitialTwin;
use crate::twin::{Change, TwinPatch, TwinReplacement};

impl Hub {
    /// `Configuration_ApplyOnEdgeDevice`.
    pub async fn apply_configuration_content(
        &self,
        caller: &Caller,
        device_id: &DeviceId,
        content: &ContentSpec,
    ) -> Result<(), Error> {
        caller.require(Permission::ConfigurationApply, self.scope())?;
        if caller.is_policy() {
            // It writes identities and twins; of a role the action says so.
            caller.require(Permission::TwinWrite, self.scope())?;
        }
        self.charge(Meter::ServiceOperation)?;
        let content = rules::content(content)?;
        let is_edge = self.device(device_id).await?.record.iot_edge;
        if content.is_deployment() && !is_edge {
            return Err(Error::invalid("Not an Azure IoT Edge device"));
        }
        let (hub, device_id) = (self.clone(), device_id.clone());
        self.to_the_end(async move {
            match content {
                Content::DeviceContent(keys) => {
                    hub.merge_content(&IdentityId::device(device_id), &keys).await
                }
                Content::ModuleContent(keys) => hub.merge_into_modules(&device_id, &keys).await,
                Content::ModulesContent(modules) => hub.deploy(&device_id, &modules).await,
            }
        })
        .await
    }

    async fn merge_content(&self, id: &IdentityId, keys: &Object) -> Result<(), Error> {
        let desired = Change::Merge(rules::desired(keys)?);
        let patch = TwinPatch { tags: Change::Keep, desired };
        self.patch_twin(id, &patch, &IfMatch::Absent).await.map(drop)
    }

    /// Of a device's own modules each; those of IoT Edge have contents of their own.
    async fn merge_into_modules(&self, device_id: &DeviceId, keys: &Object) -> Result<(), Error> {
        for module in self.stored_modules(device_id).await? {
            if !module.record.id.module_key().starts_with('$') {
                self.merge_content(&module.record.id, keys).await?;
            }
        }
        Ok(())
    }

    async fn deploy(&self, device_id: &DeviceId, modules: &Object) -> Result<(), Error> {
        let contents = rules::by_module(modules)?;
        let named = contents.iter().map(|(module_id, _)| module_id.clone());
        for module_id in rules::started_modules(modules)?.into_iter().chain(named) {
            self.ensure_module(device_id, module_id).await?;
        }
        for (module_id, keys) in contents {
            let id = IdentityId::module(device_id.clone(), module_id);
            retry_on_conflict(async || {
                let old = self.twin_if(&id, &IfMatch::Absent).await?;
                let desired = rules::laid_over(&old.record.properties.desired.values, keys)?;
                let replacement = TwinReplacement { tags: old.record.tags.clone(), desired };
                self.apply_replacement(old, &replacement).await
            })
            .await?;
        }
        Ok(())
    }

    async fn ensure_module(&self, device_id: &DeviceId, module_id: ModuleId) -> Result<(), Error> {
        let id = IdentityId::module(device_id.clone(), module_id.clone());
        if self.identity(&id).await?.is_some() {
            return Ok(());
        }
        let spec = ModuleSpec {
            device_id: device_id.clone(),
            module_id,
            managed_by: Some("iotEdge".to_owned()),
            authentication: AuthenticationSpec::default(),
        };
        let (caller, create) = (Caller::system(), Expected::Put(IfMatch::Absent));
        match self.write_module(&caller, &spec, &InitialTwin::default(), &create).await {
            // Somebody else has just made it.
            Ok(_) | Err(Error::ModuleAlreadyExistsOnDevice { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
