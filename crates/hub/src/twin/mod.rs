//! Device twins and module twins: read, patched and replaced by services, reported by devices (`iothub-service.md` §4,
//! `iothub-device.md` §6). A change and the event that tells of it commit together; the device is told after the commit.

mod document;
pub(crate) mod event;
mod record;
pub mod rules;
#[cfg(test)]
mod tests;

use access::{Caller, Permission};
use base::ids::IdentityId;
use base::{IfMatch, Meter, caps};
use bytes::Bytes;
use serde_json::{Value, json};
use store::{Batch, Stored, retry_on_conflict};

pub use self::document::{connection_state, date};
pub use self::record::{DeviceTwin, Properties, Section, TwinEtag};
use self::rules::Applied;
pub use self::rules::{Change, InitialTwin, TwinPatch, TwinReplacement};
use crate::bus::{Delivery, Reply};
use crate::error::{ETAG_STALE, Error};
use crate::hub::Hub;
use crate::identity::{Identity, identity_key};
use crate::presence::Connection;

/// A twin with what it shows of its identity.
#[derive(Clone, Debug, PartialEq)]
pub struct TwinView {
    pub twin: DeviceTwin,
    pub identity: Identity,
    pub connection: Connection,
    /// How many cloud-to-device messages wait for it.
    pub messages: u32,
}

/// What a device sees of its twin.
#[derive(Clone, Debug, PartialEq)]
pub struct DevicePropertiesView {
    pub desired: Value,
    pub reported: Value,
}

impl DevicePropertiesView {
    pub fn to_json(&self) -> Bytes {
        let view = json!({ "desired": self.desired, "reported": self.reported });
        Bytes::from(view.to_string())
    }
}

impl Hub {
    /// `Devices_GetTwin`, `Modules_GetTwin`.
    pub async fn get_twin(&self, caller: &Caller, id: &IdentityId) -> Result<TwinView, Error> {
        let done = async {
            caller.require(Permission::TwinRead, self.scope())?;
            self.charge(Meter::TwinRead)?;
            let twin = self.twin(id).await?;
            self.twin_view(twin.record).await
        };
        self.measures().twin_reads_by_services.note(done.await)
    }

    /// `Devices_UpdateTwin`, `Modules_UpdateTwin`: merges tags and desired properties.
    pub async fn update_twin(
        &self,
        caller: &Caller,
        id: &IdentityId,
        patch: &TwinPatch,
        if_match: &IfMatch,
    ) -> Result<TwinView, Error> {
        let done = async {
            caller.require(Permission::TwinWrite, self.scope())?;
            self.charge(Meter::TwinUpdate)?;
            let twin = self.patch_twin(id, patch, if_match).await?;
            self.twin_view(twin).await
        };
        self.measures().twin_updates_by_services.note(done.await)
    }

    pub(crate) async fn patch_twin(
        &self,
        id: &IdentityId,
        patch: &TwinPatch,
        if_match: &IfMatch,
    ) -> Result<DeviceTwin, Error> {
        retry_on_conflict(async || {
            let old = self.twin_if(id, if_match).await?;
            self.apply_patch(old, patch).await
        })
        .await
    }

    /// `Devices_ReplaceTwin`, `Modules_ReplaceTwin`: tags and desired properties become what is given.
    pub async fn replace_twin(
        &self,
        caller: &Caller,
        id: &IdentityId,
        replacement: &TwinReplacement,
        if_match: &IfMatch,
    ) -> Result<TwinView, Error> {
        let done = async {
            caller.require(Permission::TwinWrite, self.scope())?;
            self.charge(Meter::TwinUpdate)?;
            let twin = retry_on_conflict(async || {
                let old = self.twin_if(id, if_match).await?;
                self.apply_replacement(old, replacement).await
            })
            .await?;
            self.twin_view(twin).await
        };
        self.measures().twin_updates_by_services.note(done.await)
    }

    /// The device's read of its own twin.
    pub async fn read_twin_as_device(
        &self,
        caller: &Caller,
        id: &IdentityId,
    ) -> Result<DevicePropertiesView, Error> {
        let done = async {
            caller.require_identity(id, self.scope())?;
            self.charge(Meter::TwinRead)?;
            let properties = self.twin(id).await?.record.properties;
            Ok(DevicePropertiesView {
                desired: properties.desired.without_metadata(),
                reported: properties.reported.without_metadata(),
            })
        };
        self.measures().twin_reads_by_devices.note(done.await)
    }

    /// The device's patch of its reported properties, as JSON text. Answers with their new version.
    pub async fn patch_reported(
        &self,
        caller: &Caller,
        id: &IdentityId,
        patch: &[u8],
        expected_version: Option<u64>,
    ) -> Result<u64, Error> {
        let done = async {
            caller.require_identity(id, self.scope())?;
            self.charge(Meter::TwinUpdate)?;
            let Value::Object(patch) = rules::parse(patch)? else {
                return Err(rules::not_an_object("properties.reported"));
            };
            let twin = retry_on_conflict(async || {
                let old = self.twin(id).await?;
                let applied = rules::apply_reported(&old.record, &patch, expected_version, self.now())?;
                self.commit_twin(old, applied, event::Change::Update).await
            })
            .await?;
            Ok(twin.properties.reported.version)
        };
        self.measures().twin_updates_by_devices.note(done.await)
    }

    /// For provisioning, which moves a twin between hubs.
    pub async fn export_twin(&self, caller: &Caller, id: &IdentityId) -> Result<InitialTwin, Error> {
        caller.require(Permission::TwinRead, self.scope())?;
        let twin = self.twin(id).await?.record;
        let (desired, reported) = (twin.properties.desired.values, twin.properties.reported.values);
        Ok(InitialTwin { tags: twin.tags, desired, reported })
    }

    pub(crate) async fn twin(&self, id: &IdentityId) -> Result<Stored<DeviceTwin>, Error> {
        let twin = self.store().get::<DeviceTwin>(&identity_key(self.instance(), id)).await?;
        // A missing module's twin is named by its device too (`iothub-service.md` §2.4).
        twin.ok_or_else(|| Error::DeviceNotFound(id.to_string()))
    }

    pub(crate) async fn twin_if(
        &self,
        id: &IdentityId,
        if_match: &IfMatch,
    ) -> Result<Stored<DeviceTwin>, Error> {
        let twin = self.twin(id).await?;
        if if_match.allows(&twin.record.etag.to_string()) {
            return Ok(twin);
        }
        Err(Error::PreconditionFailed(ETAG_STALE))
    }

    /// A twin as a patch leaves it, which is as it was when the patch touches nothing.
    pub(crate) async fn apply_patch(
        &self,
        old: Stored<DeviceTwin>,
        patch: &TwinPatch,
    ) -> Result<DeviceTwin, Error> {
        match rules::apply(&old.record, patch, self.now())? {
            None => Ok(old.record),
            Some(applied) => self.commit_twin(old, applied, event::Change::Update).await,
        }
    }

    pub(crate) async fn apply_replacement(
        &self,
        old: Stored<DeviceTwin>,
        replacement: &TwinReplacement,
    ) -> Result<DeviceTwin, Error> {
        let applied = rules::replace(&old.record, replacement, self.now())?;
        self.commit_twin(old, applied, event::Change::Replace).await
    }

    async fn twin_view(&self, twin: DeviceTwin) -> Result<TwinView, Error> {
        let identity = self.identity(&twin.identity).await?;
        let identity = identity.ok_or_else(|| Error::DeviceNotFound(twin.identity.to_string()))?.record;
        let connection = self.connection(&identity).await?;
        let messages = self.message_count(&identity.id).await?;
        Ok(TwinView { twin, identity, connection, messages })
    }

    /// Commits a changed twin with what configurations make of it and with its event, then tells the device. Runs to its end even if the caller goes away: a
    /// version that no one tells of would hold back every later one.
    async fn commit_twin(
        &self,
        old: Stored<DeviceTwin>,
        applied: Applied,
        change: event::Change,
    ) -> Result<DeviceTwin, Error> {
        let fence = self.fence().await?;
        let applied = self.settled(&fence, &old.record, applied).await?;
        let mut batch = Batch::default();
        fence.guard(self, &mut batch);
        self.write_twin(&mut batch, &old, &applied, change);
        let Some(notification) = applied.desired_notification else {
            self.commit_fenced(batch, fence).await?;
            return Ok(applied.twin);
        };
        let (hub, twin) = (self.clone(), applied.twin);
        self.to_the_end(async move {
            hub.commit_fenced(batch, fence).await?;
            let version = twin.properties.desired.version;
            let patch = Bytes::from(Value::Object(notification).to_string());
            match hub.deliver(&twin.identity, Delivery::Desired { version, patch }).await {
                Ok(Reply::Taken) => {}
                missed => tracing::trace!(identity = %twin.identity, ?missed, "it reads its twin later"),
            }
            Ok(twin)
        })
        .await
    }

    /// A patched twin with its event, in a batch of the caller's, who tells the device after the commit.
    pub(crate) fn change_twin(&self, batch: &mut Batch, old: &Stored<DeviceTwin>, applied: &Applied) {
        self.write_twin(batch, old, applied, event::Change::Update);
    }

    fn write_twin(
        &self,
        batch: &mut Batch,
        old: &Stored<DeviceTwin>,
        applied: &Applied,
        change: event::Change,
    ) {
        batch.replace(old, &applied.twin);
        // How configurations stand with a twin is no change of it in Azure's sense.
        if !applied.change.is_empty() {
            event::push_change(batch, self, applied, change, self.now());
        }
    }

    /// Devices that are connected hear of twins that were changed together; the others read them when they come.
    pub(crate) async fn tell_desired(&self, told: Vec<(DeviceTwin, base::json::Object)>) {
        let ids: Vec<IdentityId> = told.iter().map(|(twin, _)| twin.identity.clone()).collect();
        let owners = match self.store().sessions().owners(self.instance(), &ids).await {
            Ok(owners) => owners,
            Err(error) => return tracing::debug!(%error, "devices read their twins later"),
        };
        for ((twin, patch), owner) in told.into_iter().zip(owners) {
            if owner.is_some() {
                let version = twin.properties.desired.version;
                let patch = Bytes::from(Value::Object(patch).to_string());
                let reply = self.deliver(&twin.identity, Delivery::Desired { version, patch }).await;
                tracing::trace!(identity = %twin.identity, ?reply, "it was told of its twin");
            }
        }
    }

    /// Keeps the model id that a device announced. Not a change of the twin in Azure's sense: no version rises.
    pub async fn keep_model_id(&self, id: &IdentityId, model_id: &str) -> Result<(), Error> {
        if model_id.chars().count() > caps::MODEL_ID_CHARACTERS_MAX {
            return Err(Error::invalid("The model id is too long."));
        }
        retry_on_conflict(async || {
            let old = self.twin(id).await?;
            if old.record.model_id == model_id {
                return Ok(());
            }
            let new = DeviceTwin { model_id: model_id.to_owned(), ..old.record.clone() };
            let mut batch = Batch::default();
            batch.replace(&old, &new);
            self.store().commit(batch).await?;
            Ok(())
        })
        .await
    }
}

/// Whether a text that a device announces is taken for the id of its model. What is none is not announced.
pub fn is_model_id(text: &str) -> bool {
    text.starts_with("dtmi:") && text.chars().count() <= caps::MODEL_ID_CHARACTERS_MAX
}
