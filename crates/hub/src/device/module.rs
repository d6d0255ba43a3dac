//! Modules of devices: registry operations that differ from those of devices, and the two modules that every IoT Edge device has.

use access::{Caller, Permission};
use base::ids::IdentityId;
use base::{DeviceId, IfMatch, Meter, ModuleId, caps};
use store::{Batch, Key, Scan, Stored, retry_on_conflict};

use super::rules::{self, Expected, PutMode, Subject};
use super::{AuthenticationSpec, IdentityView};
use crate::bus::CloseReason;
use crate::configuration::Fence;
use crate::error::Error;
use crate::hub::Hub;
use crate::identity::{Identity, MODULE};
use crate::twin::DeviceTwin;
use crate::twin::rules::InitialTwin;

const SYSTEM_MODULES: [&str; 2] = ["$edgeAgent", "$edgeHub"];

/// What a caller writes of a module.
#[derive(Clone, Debug)]
pub struct ModuleSpec {
    pub device_id: DeviceId,
    pub module_id: ModuleId,
    pub managed_by: Option<String>,
    pub authentication: AuthenticationSpec,
}

impl ModuleSpec {
    fn id(&self) -> IdentityId {
        IdentityId::module(self.device_id.clone(), self.module_id.clone())
    }

    fn is_system(&self) -> bool {
        SYSTEM_MODULES.contains(&self.module_id.as_str())
    }

    fn subject(&self) -> Subject {
        if self.is_system() { Subject::SystemModule } else { Subject::Module }
    }
}

impl Hub {
    /// `Modules_GetIdentity`.
    pub async fn get_module(&self, caller: &Caller, id: &IdentityId) -> Result<IdentityView, Error> {
        caller.require(Permission::RegistryRead, self.scope())?;
        self.charge(Meter::RegistryRead)?;
        self.device_for_modules(caller, &id.device_id).await?;
        let module = self.module(id).await?;
        self.view(module.record).await
    }

    /// `Modules_GetModulesOnDevice`.
    pub async fn list_modules(
        &self,
        caller: &Caller,
        device_id: &DeviceId,
    ) -> Result<Vec<IdentityView>, Error> {
        caller.require(Permission::RegistryRead, self.scope())?;
        self.charge(Meter::RegistryRead)?;
        self.device_for_modules(caller, device_id).await?;
        self.list_views(self.modules_of(device_id), caps::DEVICE_LIST_MAX).await
    }

    /// `Modules_CreateOrUpdateIdentity`: creates without If-Match, replaces with one.
    pub async fn put_module(
        &self,
        caller: &Caller,
        spec: &ModuleSpec,
        if_match: &IfMatch,
    ) -> Result<IdentityView, Error> {
        caller.require(Permission::RegistryWrite, self.scope())?;
        self.charge(Meter::RegistryWrite)?;
        let expected = Expected::Put(if_match.clone());
        let identity = self.write_module(caller, spec, &InitialTwin::default(), &expected).await?;
        self.view(identity).await
    }

    /// The twin is that of a new module; an existing one is left alone.
    pub(crate) async fn write_module(
        &self,
        caller: &Caller,
        spec: &ModuleSpec,
        twin: &InitialTwin,
        expected: &Expected,
    ) -> Result<Identity, Error> {
        retry_on_conflict(async || {
            let device = self.device_for_modules(caller, &spec.device_id).await?;
            let existing = self.identity(&spec.id()).await?;
            match expected.mode(existing.as_ref().map(|stored| &stored.record))? {
                PutMode::NotFound => Err(not_found(&spec.id())),
                PutMode::AlreadyExists => Err(self.module_exists(spec)),
                PutMode::Create => self.create_module(spec, twin, &device).await,
                PutMode::Update => self.update_module(spec, &existing.expect("there is one to update")).await,
            }
        })
        .await
    }

    /// `Modules_DeleteIdentity`.
    pub async fn delete_module(
        &self,
        caller: &Caller,
        id: &IdentityId,
        if_match: &IfMatch,
    ) -> Result<(), Error> {
        caller.require(Permission::RegistryDelete, self.scope())?;
        self.charge(Meter::RegistryWrite)?;
        self.delete_module_if(caller, id, if_match).await
    }

    pub(super) async fn delete_module_if(
        &self,
        caller: &Caller,
        id: &IdentityId,
        if_match: &IfMatch,
    ) -> Result<(), Error> {
        rules::check_delete_has_etag(if_match)?;
        if SYSTEM_MODULES.contains(&id.module_key()) {
            return Err(Error::SystemModuleModifyUnauthorizedAccess(id.to_string()));
        }
        self.device_for_modules(caller, &id.device_id).await?;
        let (hub, id, if_match) = (self.clone(), id.clone(), if_match.clone());
        self.to_the_end(async move {
            retry_on_conflict(async || {
                let module = hub.module(&id).await?;
                rules::check_delete(&module.record, &if_match)?;
                let mut batch = Batch::default();
                hub.remove(&mut batch, &module).await?;
                Ok::<_, Error>(hub.store().commit(batch).await?)
            })
            .await?;
            hub.close_session(&id, CloseReason::DeviceDeleted).await
        })
        .await
    }

    /// The device that modules belong to. Holders of a policy's key are told "unauthorized" where it is missing or disabled,
    /// as the live service does (`iothub-service.md` §1.3).
    async fn device_for_modules(
        &self,
        caller: &Caller,
        device_id: &DeviceId,
    ) -> Result<Stored<Identity>, Error> {
        let device = self.device(device_id).await;
        if !caller.is_policy() {
            return device;
        }
        match device {
            Err(Error::DeviceNotFound(_)) => Err(Error::IotHubUnauthorizedAccess),
            Ok(device) if !device.record.is_enabled() => Err(Error::IotHubUnauthorizedAccess),
            other => other,
        }
    }

    async fn module(&self, id: &IdentityId) -> Result<Stored<Identity>, Error> {
        self.identity(id).await?.ok_or_else(|| not_found(id))
    }

    fn module_exists(&self, spec: &ModuleSpec) -> Error {
        let (device_id, module_id) = (spec.device_id.to_string(), spec.module_id.to_string());
        Error::ModuleAlreadyExistsOnDevice { hub: self.name().to_owned(), device_id, module_id }
    }

    async fn create_module(
        &self,
        spec: &ModuleSpec,
        initial: &InitialTwin,
        device: &Stored<Identity>,
    ) -> Result<Identity, Error> {
        if spec.module_id.as_str().starts_with('$') {
            return Err(Error::invalid("A module's id cannot begin with '$'."));
        }
        let mut module = self.new_identity(spec.id());
        module.authentication = rules::authentication(&spec.authentication, spec.subject())?;
        module.managed_by.clone_from(&spec.managed_by);
        let (fence, mut batch) = (self.fence().await?, Batch::default());
        // The device's removal, which has listed the modules before, fails because of this.
        batch.replace(device, &device.record);
        let mut twin = DeviceTwin::new(self.instance().clone(), module.id.clone(), self.now());
        crate::twin::rules::fill(&mut twin, initial, self.now())?;
        self.insert(&mut batch, &fence, &module, twin);
        self.commit_identities(batch, fence, &spec.device_id).await?;
        Ok(module)
    }

    async fn update_module(&self, spec: &ModuleSpec, old: &Stored<Identity>) -> Result<Identity, Error> {
        let mut module = old.record.clone();
        module.etag += 1;
        module.authentication = rules::authentication(&spec.authentication, spec.subject())?;
        module.managed_by.clone_from(&spec.managed_by);
        let mut batch = Batch::default();
        batch.replace(old, &module);
        self.store().commit(batch).await?;
        Ok(module)
    }

    pub(super) fn insert_system_modules(&self, batch: &mut Batch, fence: &Fence, device_id: &DeviceId) {
        for module_id in SYSTEM_MODULES {
            let mut module = self.new_identity(system_module(device_id, module_id));
            module.managed_by = Some("iotEdge".to_owned());
            let twin = DeviceTwin::new(self.instance().clone(), module.id.clone(), self.now());
            self.insert(batch, fence, &module, twin);
        }
    }

    /// A device that is no IoT Edge device any more loses the modules that made it one.
    pub(super) async fn remove_system_modules(
        &self,
        batch: &mut Batch,
        device_id: &DeviceId,
    ) -> Result<(), Error> {
        for module_id in SYSTEM_MODULES {
            if let Some(module) = self.identity(&system_module(device_id, module_id)).await? {
                self.remove(batch, &module).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn stored_modules(&self, device_id: &DeviceId) -> Result<Vec<Stored<Identity>>, Error> {
        let scan = Scan::new(self.modules_of(device_id), caps::DEVICE_LIST_MAX);
        Ok(self.store().scan::<Identity>(scan).await?)
    }

    fn modules_of(&self, device_id: &DeviceId) -> Key {
        Key::new([self.instance().as_str(), MODULE, device_id.as_str()])
    }
}

fn system_module(device_id: &DeviceId, module_id: &str) -> IdentityId {
    IdentityId::module(device_id.clone(), module_id.parse().expect("the system modules' ids are valid"))
}

fn not_found(id: &IdentityId) -> Error {
    Error::ModuleNotFound { device_id: id.device_id.to_string(), module_id: id.module_key().to_owned() }
}
