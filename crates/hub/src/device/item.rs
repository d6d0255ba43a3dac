//! An item of a bulk call as callers write it, which is also a line of a file that is imported (`iothub-service.md` §3.4, §9). Whoever
//! has the text reads it here; what is done with it is the affair of `bulk`.

use base::ids::{IdentityId, InvalidId};
use base::json::Object;
use base::reading::{self, Reading};
use base::{IfMatch, Secret};
use serde::Deserialize;

use super::rules::Expected;
use super::{
    AuthenticationKind, AuthenticationSpec, BulkItem, Change, DeviceSpec, Draft, ImportMode, ModuleSpec,
    ScopeSpec, Status,
};
use crate::error::Error;
use crate::twin::rules::InitialTwin;
use crate::twin::{TwinPatch, TwinReplacement};

impl BulkItem {
    /// An item that names nobody, or nothing to do, is none, because nothing could be told of it. The error is a clause of a sentence.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let input: ItemInput = reading::read(text, Reading::Tolerant).map_err(|why| why.to_string())?;
        let device_id = input.id.clone().ok_or("id is missing")?;
        let mode = match input.import_mode.as_deref() {
            None => ImportMode::CreateOrUpdate,
            Some(mode) => ImportMode::parse(mode).ok_or_else(|| format!("'{mode}' is not an importMode"))?,
        };
        let module_id = input.module_id.clone();
        Ok(Self { device_id, module_id, mode, change: input.into_change(mode, text) })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemInput {
    id: Option<String>,
    module_id: Option<String>,
    #[serde(rename = "eTag")]
    etag: Option<String>,
    import_mode: Option<String>,
    status: Option<String>,
    status_reason: Option<String>,
    authentication: Option<AuthenticationInput>,
    #[serde(rename = "twinETag")]
    twin_etag: Option<String>,
    managed_by: Option<String>,
    capabilities: Option<Capabilities>,
    device_scope: Option<String>,
    parent_scopes: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    #[serde(default)]
    iot_edge: bool,
}

/// `authentication` of a device or a module.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationInput {
    symmetric_key: Option<SymmetricKeyInput>,
    x509_thumbprint: Option<ThumbprintInput>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SymmetricKeyInput {
    primary_key: Option<Secret>,
    secondary_key: Option<Secret>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThumbprintInput {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
}

impl AuthenticationInput {
    /// The error is a clause of a sentence.
    pub fn into_spec(self) -> Result<AuthenticationSpec, String> {
        let parse = |text: &str| {
            AuthenticationKind::parse(text).ok_or_else(|| format!("'{text}' is not a type of authentication"))
        };
        let keys = self.symmetric_key.unwrap_or_default();
        let thumbprints = self.x509_thumbprint.unwrap_or_default();
        Ok(AuthenticationSpec {
            kind: self.kind.as_deref().map(parse).transpose()?,
            primary_key: keys.primary_key,
            secondary_key: keys.secondary_key,
            primary_thumbprint: thumbprints.primary_thumbprint,
            secondary_thumbprint: thumbprints.secondary_thumbprint,
        })
    }
}

impl ItemInput {
    fn into_change(self, mode: ImportMode, text: &[u8]) -> Result<Change, Error> {
        let id = self.identity()?;
        Ok(match mode {
            ImportMode::Create => Change::Write(self.into_draft(id, text)?, Expected::Put(IfMatch::Absent)),
            ImportMode::Update => Change::Write(self.into_draft(id, text)?, Expected::Put(IfMatch::Any)),
            ImportMode::UpdateIfMatchEtag => {
                let tag = tag("eTag", self.etag.as_deref())?;
                Change::Write(self.into_draft(id, text)?, Expected::Put(tag))
            }
            ImportMode::CreateOrUpdate => {
                Change::Write(self.into_draft(id, text)?, Expected::CreateOrUpdate(IfMatch::Any))
            }
            ImportMode::CreateOrUpdateIfMatchEtag => {
                let tag = IfMatch::parse(self.etag.as_deref());
                Change::Write(self.into_draft(id, text)?, Expected::CreateOrUpdate(tag))
            }
            ImportMode::Delete => Change::Delete(id, IfMatch::Any),
            ImportMode::DeleteIfMatchEtag => Change::Delete(id, tag("eTag", self.etag.as_deref())?),
            ImportMode::UpdateTwin => Change::Twin(id, TwinPatch::parse_item(text)?, IfMatch::Any),
            ImportMode::UpdateTwinIfMatchEtag => {
                let tag = tag("twinETag", self.twin_etag.as_deref())?;
                Change::Twin(id, TwinPatch::parse_item(text)?, tag)
            }
        })
    }

    fn identity(&self) -> Result<IdentityId, Error> {
        let invalid = |error: InvalidId| Error::invalid(error.to_string());
        let device_id = self.id.as_deref().unwrap_or_default().parse().map_err(invalid)?;
        Ok(match self.module_id.as_deref() {
            None => IdentityId::device(device_id),
            Some(module_id) => IdentityId::module(device_id, module_id.parse().map_err(invalid)?),
        })
    }

    fn into_draft(self, id: IdentityId, text: &[u8]) -> Result<Box<Draft>, Error> {
        let TwinReplacement { tags, desired } = TwinReplacement::parse_item(text)?;
        let twin = InitialTwin { tags, desired, reported: Object::new() };
        let authentication = self.authentication.unwrap_or_default().into_spec().map_err(Error::invalid)?;
        let IdentityId { device_id, module_id } = id;
        if let Some(module_id) = module_id {
            let spec = ModuleSpec { device_id, module_id, managed_by: self.managed_by, authentication };
            return Ok(Box::new(Draft::Module(spec, twin)));
        }
        let mut spec = DeviceSpec::new(device_id);
        if let Some(status) = &self.status {
            let known = Status::parse(status);
            spec.status = known.ok_or_else(|| Error::invalid(format!("'{status}' is not a status")))?;
        }
        spec.status_reason = self.status_reason;
        spec.authentication = authentication;
        spec.iot_edge = self.capabilities.is_some_and(|capabilities| capabilities.iot_edge);
        let parent_scopes = self.parent_scopes.unwrap_or_default();
        spec.scopes = ScopeSpec { device_scope: self.device_scope, parent_scopes, is_imported: false };
        spec.initial_twin = twin;
        Ok(Box::new(Draft::Device(spec)))
    }
}

/// The etag of a mode that asks for one.
fn tag(name: &'static str, given: Option<&str>) -> Result<IfMatch, Error> {
    match IfMatch::parse(given) {
        IfMatch::Absent => Err(Error::ArgumentNull(name)),
        tag => Ok(tag),
    }
}
