//! The identity registry: devices and their modules, created, replaced, removed and listed (`iothub-service.md` §3).
//! Doors and provisioning call it. An identity, its twin and the event that tells of it commit together.

mod bulk;
mod ensure;
mod item;
mod module;
pub mod rules;
mod statistics;
#[cfg(test)]
mod tests;

use access::{Caller, Permission};
use base::ids::IdentityId;
use base::{DeviceId, IfMatch, Meter, caps};
use store::{Batch, CommitError, Counter, Key, Scan, Stored, retry_on_conflict};

pub(crate) use self::bulk::waves;
pub use self::bulk::{BulkFailure, BulkItem, Change, Draft, ImportMode};
pub use self::ensure::Ensured;
pub use self::item::AuthenticationInput;
pub use self::module::ModuleSpec;
pub use self::rules::{AuthenticationKind, AuthenticationSpec, Expected, ScopeSpec};
use self::rules::{PutMode, Subject};
pub use self::statistics::{RegistryStatistics, ServiceStatistics};
use crate::bus::CloseReason;
use crate::configuration::Fence;
use crate::error::Error;
use crate::hub::Hub;
use crate::identity::DEVICE;
pub use crate::identity::{Authentication, Identity, Status};
use crate::presence::{Activity, Connection, shown};
use crate::settings::HubSettings;
use crate::subscription::Subscription;
use crate::twin::rules::{Applied, InitialTwin};
use crate::twin::{DeviceTwin, event};

/// What a caller writes of a device. What is left out is cleared, and keys are made anew.
#[derive(Clone, Debug)]
pub struct DeviceSpec {
    pub device_id: DeviceId,
    pub status: Status,
    pub status_reason: Option<String>,
    pub authentication: AuthenticationSpec,
    pub iot_edge: bool,
    pub scopes: ScopeSpec,
    /// Of a new device; an existing twin is left alone.
    pub initial_twin: InitialTwin,
}

impl DeviceSpec {
    pub fn new(device_id: DeviceId) -> Self {
        Self {
            device_id,
            status: Status::Enabled,
            status_reason: None,
            authentication: AuthenticationSpec::default(),
            iot_edge: false,
            scopes: ScopeSpec::default(),
            initial_twin: InitialTwin::default(),
        }
    }
}

/// An identity and what is known of its connection.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityView {
    pub identity: Identity,
    pub connection: Connection,
    /// How many cloud-to-device messages wait for it.
    pub messages: u32,
}

impl Hub {
    /// `Devices_GetIdentity`.
    pub async fn get_device(&self, caller: &Caller, device_id: &DeviceId) -> Result<IdentityView, Error> {
        caller.require(Permission::RegistryRead, self.scope())?;
        self.charge(Meter::RegistryRead)?;
        let device = self.device(device_id).await?;
        self.view(device.record).await
    }

    /// `Devices_GetDevices`: the first `top` devices by id.
    pub async fn list_devices(
        &self,
        caller: &Caller,
        top: Option<usize>,
    ) -> Result<Vec<IdentityView>, Error> {
        caller.require(Permission::RegistryRead, self.scope())?;
        self.charge(Meter::RegistryRead)?;
        let limit = top.unwrap_or(caps::DEVICE_LIST_MAX);
        if !(1..=caps::DEVICE_LIST_MAX).contains(&limit) {
            let max = caps::DEVICE_LIST_MAX;
            return Err(Error::invalid(format!("top must lie between 1 and {max}.")));
        }
        self.list_views(Key::new([self.instance().as_str(), DEVICE]), limit).await
    }

    /// `Devices_CreateOrUpdateIdentity`: creates without If-Match, replaces with one.
    pub async fn put_device(
        &self,
        caller: &Caller,
        spec: &DeviceSpec,
        if_match: &IfMatch,
    ) -> Result<IdentityView, Error> {
        caller.require(Permission::RegistryWrite, self.scope())?;
        self.charge(Meter::RegistryWrite)?;
        let identity = self.write_device(spec, &Expected::Put(if_match.clone())).await?;
        self.view(identity).await
    }

    async fn write_device(&self, spec: &DeviceSpec, expected: &Expected) -> Result<Identity, Error> {
        let id = IdentityId::device(spec.device_id.clone());
        retry_on_conflict(async || {
            let existing = self.identity(&id).await?;
            match expected.mode(existing.as_ref().map(|stored| &stored.record))? {
                PutMode::NotFound => Err(Error::DeviceNotFound(spec.device_id.to_string())),
                PutMode::AlreadyExists => Err(Error::DeviceAlreadyExists(spec.device_id.to_string())),
                PutMode::Create => self.create_device(spec).await,
                PutMode::Update => {
                    self.update_device(spec, existing.expect("an update has something to update")).await
                }
            }
        })
        .await
    }

    /// `Devices_DeleteIdentity`: the device, its twin, its modules; its sessions are cut.
    pub async fn delete_device(
        &self,
        caller: &Caller,
        device_id: &DeviceId,
        if_match: &IfMatch,
    ) -> Result<(), Error> {
        caller.require(Permission::RegistryDelete, self.scope())?;
        self.charge(Meter::RegistryWrite)?;
        self.delete_device_if(device_id, if_match).await
    }

    async fn delete_device_if(&self, device_id: &DeviceId, if_match: &IfMatch) -> Result<(), Error> {
        rules::check_delete_has_etag(if_match)?;
        let hub = self.clone();
        let (device_id, if_match) = (device_id.clone(), if_match.clone());
        self.to_the_end(async move {
            retry_on_conflict(async || {
                let device = hub.device(&device_id).await?;
                rules::check_delete(&device.record, &if_match)?;
                hub.remove_device(&device).await
            })
            .await?;
            hub.close_device(&device_id, CloseReason::DeviceDeleted).await
        })
        .await
    }

    pub(crate) async fn device(&self, device_id: &DeviceId) -> Result<Stored<Identity>, Error> {
        let device = self.identity(&IdentityId::device(device_id.clone())).await?;
        device.ok_or_else(|| Error::DeviceNotFound(device_id.to_string()))
    }

    async fn create_device(&self, spec: &DeviceSpec) -> Result<Identity, Error> {
        let (fence, mut batch) = (self.fence().await?, Batch::default());
        let mut device = self.new_identity(IdentityId::device(spec.device_id.clone()));
        device.authentication = rules::authentication(&spec.authentication, Subject::Device)?;
        self.fill_device(&mut batch, &mut device, spec, None).await?;
        let mut twin = DeviceTwin::new(self.instance().clone(), device.id.clone(), self.now());
        crate::twin::rules::fill(&mut twin, &spec.initial_twin, self.now())?;
        self.insert(&mut batch, &fence, &device, twin);
        if device.iot_edge {
            self.insert_system_modules(&mut batch, &fence, &device.id.device_id);
        }
        self.commit_identities(batch, fence, &device.id.device_id).await?;
        Ok(device)
    }

    async fn update_device(&self, spec: &DeviceSpec, old: Stored<Identity>) -> Result<Identity, Error> {
        let (fence, mut batch) = (self.fence().await?, Batch::default());
        let mut device = old.record.clone();
        device.etag += 1;
        device.authentication = rules::authentication(&spec.authentication, Subject::Device)?;
        self.fill_device(&mut batch, &mut device, spec, Some(&old.record)).await?;
        if device.status != old.record.status {
            device.status_updated_time = self.now();
            let delta = if device.is_enabled() { -1 } else { 1 };
            batch.add(self.disabled_devices(), delta, caps::DEVICES_PER_HUB_MAX);
        }
        batch.replace(&old, &device);
        match (old.record.iot_edge, device.iot_edge) {
            (false, true) => self.insert_system_modules(&mut batch, &fence, &device.id.device_id),
            (true, false) => self.remove_system_modules(&mut batch, &device.id.device_id).await?,
            _ => {}
        }
        let mut told = Vec::new();
        if old.record.iot_edge != device.iot_edge {
            told.extend(self.settle_capability(&mut batch, &fence, &device).await?);
        }
        let (hub, updated) = (self.clone(), device.clone());
        self.to_the_end(async move {
            hub.commit_identities(batch, fence, &updated.id.device_id).await?;
            hub.tell_desired(told).await;
            if updated.is_enabled() {
                return Ok(());
            }
            hub.close_device(&updated.id.device_id, CloseReason::DeviceDisabled).await
        })
        .await?;
        Ok(device)
    }

    /// Everything of a device that does not depend on whether it is new.
    async fn fill_device(
        &self,
        batch: &mut Batch,
        device: &mut Identity,
        spec: &DeviceSpec,
        previous: Option<&Identity>,
    ) -> Result<(), Error> {
        rules::check_status_reason(spec.status_reason.as_deref())?;
        device.status = spec.status;
        device.status_reason.clone_from(&spec.status_reason);
        device.iot_edge = spec.iot_edge;
        let device_id = &spec.device_id;
        let scopes = rules::scopes(device_id, &device.generation_id, spec.iot_edge, &spec.scopes, previous)?;
        if let Some(parent) = scopes.parent() {
            self.guard_parent(batch, parent, device_id).await?;
        }
        device.device_scope = scopes.device_scope;
        device.parent_scopes = scopes.parent_scopes;
        Ok(())
    }

    /// The parent must be an IoT Edge device with exactly this scope, and still be there when the batch commits.
    async fn guard_parent(&self, batch: &mut Batch, scope: &str, child: &DeviceId) -> Result<(), Error> {
        let unknown =
            || Error::InvalidDeviceScope(format!("'{scope}' is not the scope of an IoT Edge device."));
        let device_id = rules::device_of_scope(scope).filter(|parent| parent != child).ok_or_else(unknown)?;
        let parent = self.identity(&IdentityId::device(device_id)).await?.ok_or_else(unknown)?;
        if parent.record.iot_edge && parent.record.device_scope.as_deref() == Some(scope) {
            batch.guard_exists::<Identity>(store::Record::key(&parent.record));
            return Ok(());
        }
        Err(unknown())
    }

    fn new_identity(&self, id: IdentityId) -> Identity {
        let random = base::secret::random_bytes(4);
        let first_etag = random.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Identity {
            instance: self.instance().clone(),
            id,
            generation_id: self.now().dotnet_ticks().to_string(),
            etag: first_etag,
            status: Status::Enabled,
            status_reason: None,
            status_updated_time: base::Timestamp::NEVER,
            authentication: Authentication::None,
            iot_edge: false,
            device_scope: None,
            parent_scopes: Vec::new(),
            managed_by: None,
        }
    }

    /// A new identity with its twin, counted and told of.
    fn insert(&self, batch: &mut Batch, fence: &Fence, identity: &Identity, twin: DeviceTwin) {
        let twin = fence.settle_new(self, twin, identity.iot_edge);
        // A hub that is being removed must not be left with a device.
        batch.guard_exists::<HubSettings>(Key::instance(self.instance()));
        fence.guard(self, batch);
        batch.insert(identity);
        batch.insert(&twin);
        batch.remove::<Subscription>(store::Record::key(identity));
        self.count(batch, identity, 1);
        event::push_lifecycle(batch, self, &twin, event::Lifecycle::Created, self.now());
    }

    /// The twin of a device that becomes one of IoT Edge, or is no more: deployments are for such devices only.
    async fn settle_capability(
        &self,
        batch: &mut Batch,
        fence: &Fence,
        device: &Identity,
    ) -> Result<Option<(DeviceTwin, base::json::Object)>, Error> {
        let twin = self.twin(&device.id).await?;
        let mut applied = Applied::unchanged(twin.record.clone());
        fence.settle(self, &mut applied, device.iot_edge);
        fence.guard(self, batch);
        // Though it may be as it was: who judges it by what the device was before comes too late.
        self.change_twin(batch, &twin, &applied);
        Ok(applied.desired_notification.map(|patch| (applied.twin, patch)))
    }

    fn count(&self, batch: &mut Batch, identity: &Identity, delta: i64) {
        batch.add(self.identities(), delta, caps::DEVICES_PER_HUB_MAX);
        if identity.id.module_id.is_some() {
            batch.add(self.modules(&identity.id.device_id), delta, caps::MODULES_PER_DEVICE_MAX);
            return;
        }
        batch.add(self.devices(), delta, caps::DEVICES_PER_HUB_MAX);
        if !identity.is_enabled() {
            batch.add(self.disabled_devices(), delta, caps::DEVICES_PER_HUB_MAX);
        }
    }

    /// An identity with everything that hangs on it.
    async fn remove(&self, batch: &mut Batch, stored: &Stored<Identity>) -> Result<(), Error> {
        let key = store::Record::key(&stored.record);
        batch.delete(stored);
        self.count(batch, &stored.record, -1);
        if let Some(twin) = self.store().get::<DeviceTwin>(&key).await? {
            event::push_lifecycle(batch, self, &twin.record, event::Lifecycle::Deleted, self.now());
        }
        batch.remove::<DeviceTwin>(key.clone());
        batch.remove::<Activity>(key.clone());
        batch.remove::<Subscription>(key);
        Ok(())
    }

    /// At most as many modules as a device may have hang on it, so one batch holds them all. Making a module rewrites the
    /// device's record, so that none can appear meanwhile.
    pub(crate) async fn remove_device(&self, device: &Stored<Identity>) -> Result<(), Error> {
        let mut batch = Batch::default();
        for module in self.stored_modules(&device.record.id.device_id).await? {
            self.remove(&mut batch, &module).await?;
        }
        self.remove(&mut batch, device).await?;
        self.remove_queue(&mut batch, &device.record.id.device_id).await?;
        self.remove_file_uploads(&mut batch, &device.record.id.device_id);
        self.store().commit(batch).await?;
        Ok(())
    }

    async fn commit_identities(&self, batch: Batch, fence: Fence, device_id: &DeviceId) -> Result<(), Error> {
        match self.commit_fenced(batch, fence).await {
            Ok(_) => Ok(()),
            Err(CommitError::CounterLimit { counter, .. }) if counter.starts_with("modules/") => {
                Err(Error::TooManyModulesOnDevice(device_id.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn view(&self, identity: Identity) -> Result<IdentityView, Error> {
        let connection = self.connection(&identity).await?;
        let messages = self.message_count(&identity.id).await?;
        Ok(IdentityView { identity, connection, messages })
    }

    /// The first identities under a prefix, with the activity that lies under the same prefix.
    async fn list_views(&self, prefix: Key, limit: usize) -> Result<Vec<IdentityView>, Error> {
        let identities = self.store().scan::<Identity>(Scan::new(prefix.clone(), limit)).await?;
        // Every identity has at most one record of activity and one queue, so the first of these belong to the first of those.
        let activities = self.store().scan::<Activity>(Scan::new(prefix, limit)).await?;
        let counts = self.message_counts(limit).await?;
        let ids: Vec<_> = identities.iter().map(|stored| stored.record.id.clone()).collect();
        let owners = self.store().sessions().owners(self.instance(), &ids).await?;
        let mut activities = activities.iter().map(|stored| &stored.record).peekable();
        let view = |(stored, owner): (Stored<Identity>, _)| {
            let identity = stored.record;
            while activities.next_if(|activity| activity.id < identity.id).is_some() {}
            let activity = activities.next_if(|activity| activity.id == identity.id);
            let known = self.mailboxes().known(&identity.id, &identity.generation_id);
            let connection = shown(&identity, owner, known.as_ref(), activity);
            let messages = counts.get(&identity.id).copied().unwrap_or_default();
            IdentityView { identity, connection, messages }
        };
        Ok(identities.into_iter().zip(owners).map(view).collect())
    }

    pub(crate) fn identities(&self) -> Counter {
        Counter::new(self.instance(), "identities")
    }

    pub(crate) fn devices(&self) -> Counter {
        Counter::new(self.instance(), "devices")
    }

    pub(crate) fn disabled_devices(&self) -> Counter {
        Counter::new(self.instance(), "devices/disabled")
    }

    fn modules(&self, device_id: &DeviceId) -> Counter {
        Counter::new(self.instance(), format!("modules/{device_id}"))
    }
}
