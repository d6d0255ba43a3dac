//! Many identities in one call (`iothub-service.md` §3.4). Each item is what a call for it alone would be, and succeeds or fails for
//! itself, in the order of the list, so that an item may rest on one before it.

use access::{Caller, Permission};
use base::ids::IdentityId;
use base::{IfMatch, Meter, caps};

use super::rules::Expected;
use super::{DeviceSpec, ModuleSpec};
use crate::error::Error;
use crate::hub::Hub;
use crate::twin::TwinPatch;
use crate::twin::rules::InitialTwin;

/// What is to happen with an item. Where it says so, the item's etag must be the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportMode {
    Create,
    Update,
    UpdateIfMatchEtag,
    CreateOrUpdate,
    CreateOrUpdateIfMatchEtag,
    Delete,
    DeleteIfMatchEtag,
    UpdateTwin,
    UpdateTwinIfMatchEtag,
}

impl ImportMode {
    /// In any case, as the service takes it.
    pub fn parse(text: &str) -> Option<Self> {
        const NAMES: [(&str, ImportMode); 9] = [
            ("create", ImportMode::Create),
            ("update", ImportMode::Update),
            ("updateIfMatchETag", ImportMode::UpdateIfMatchEtag),
            ("createOrUpdate", ImportMode::CreateOrUpdate),
            ("createOrUpdateIfMatchETag", ImportMode::CreateOrUpdateIfMatchEtag),
            ("delete", ImportMode::Delete),
            ("deleteIfMatchETag", ImportMode::DeleteIfMatchEtag),
            ("updateTwin", ImportMode::UpdateTwin),
            ("updateTwinIfMatchETag", ImportMode::UpdateTwinIfMatchEtag),
        ];
        NAMES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, mode)| mode)
    }

    /// What a call for the item alone asks of its caller.
    fn permission(self) -> Permission {
        match self {
            Self::Delete | Self::DeleteIfMatchEtag => Permission::RegistryDelete,
            Self::UpdateTwin | Self::UpdateTwinIfMatchEtag => Permission::TwinWrite,
            Self::Create
            | Self::Update
            | Self::UpdateIfMatchEtag
            | Self::CreateOrUpdate
            | Self::CreateOrUpdateIfMatchEtag => Permission::RegistryWrite,
        }
    }
}

/// An identity as a caller wrote it.
#[derive(Clone, Debug)]
pub enum Draft {
    Device(DeviceSpec),
    Module(ModuleSpec, InitialTwin),
}

/// What an item asks for.
#[derive(Clone, Debug)]
pub enum Change {
    Write(Box<Draft>, Expected),
    Delete(IdentityId, IfMatch),
    Twin(IdentityId, TwinPatch, IfMatch),
}

/// One item of a call, as far as it could be read.
#[derive(Clone, Debug)]
pub struct BulkItem {
    /// As they were sent.
    pub device_id: String,
    pub module_id: Option<String>,
    pub mode: ImportMode,
    pub change: Result<Change, Error>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkFailure {
    pub device_id: String,
    pub module_id: Option<String>,
    pub error: Error,
}

impl Hub {
    /// `BulkRegistry_UpdateRegistry`: the failures, in the order of the items.
    pub async fn update_registry(
        &self,
        caller: &Caller,
        items: &[BulkItem],
    ) -> Result<Vec<BulkFailure>, Error> {
        caller.require(Permission::RegistryWrite, self.scope())?;
        if items.len() > caps::BULK_IDENTITIES_MAX {
            return Err(Error::TooManyDevices(items.len()));
        }
        // All are charged before the first is done: a throttled call has changed nothing.
        items.iter().try_for_each(|_| self.charge(Meter::RegistryWrite))?;
        let mut failures = Vec::new();
        for (at, item) in items.iter().enumerate() {
            if let Err(error) = self.update_one(caller, item, &items[..at]).await {
                let (device_id, module_id) = (item.device_id.clone(), item.module_id.clone());
                failures.push(BulkFailure { device_id, module_id, error });
            }
        }
        Ok(failures)
    }

    async fn update_one(&self, caller: &Caller, item: &BulkItem, earlier: &[BulkItem]) -> Result<(), Error> {
        caller.require(item.mode.permission(), self.scope())?;
        let is_same =
            |other: &BulkItem| (&other.device_id, &other.module_id) == (&item.device_id, &item.module_id);
        if earlier.iter().any(is_same) {
            let id = item.module_id.as_ref().map(|module_id| format!("{}/{module_id}", item.device_id));
            return Err(Error::DeviceDefinedMultipleTimes(id.unwrap_or_else(|| item.device_id.clone())));
        }
        match item.change.as_ref().map_err(Clone::clone)? {
            Change::Write(draft, expected) => match &**draft {
                Draft::Device(spec) => self.write_device(spec, expected).await.map(drop),
                Draft::Module(spec, twin) => self.write_module(caller, spec, twin, expected).await.map(drop),
            },
            Change::Delete(id, if_match) if id.module_id.is_some() => {
                self.delete_module_if(caller, id, if_match).await
            }
            Change::Delete(id, if_match) => self.delete_device_if(&id.device_id, if_match).await,
            Change::Twin(id, patch, if_match) => self.patch_twin(id, patch, if_match).await.map(drop),
        }
    }
}
