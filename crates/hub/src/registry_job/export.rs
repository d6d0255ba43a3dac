//! Export: identities in pages, each with its twin, into blocks that are committed at the end. Never more of it in memory than a
//! page and a block.

use std::collections::HashMap;

use base::caps;
use base::ids::IdentityId;
use bytes::Bytes;
use store::{Key, Scan};

use super::record::{Action, Progress, Stage};
use super::run::{Fault, Run};
use super::{configurations, line, rules};
use crate::hub::Hub;
use crate::identity::{DEVICE, Identity, MODULE, identity_key};
use crate::twin::DeviceTwin;

/// The first line of a file without keys.
const WITHOUT_KEYS: &[u8] =
    b"// The keys of these identities are not in this file, since excludeKeysInExport was true.\n";

impl Run {
    /// Whether it is through.
    pub(super) async fn export(&mut self) -> Result<bool, Fault> {
        while self.job.record.progress.stage != Stage::Configurations {
            if !self.goes_on().await? {
                return Ok(false);
            }
            self.export_some().await?;
        }
        let Action::Export { output, blob, configurations, .. } = self.job.record.action.clone() else {
            return Ok(true);
        };
        let ids = rules::block_ids(&self.job.record.job_id, self.job.record.progress.blocks);
        self.hub.context().file_storage.commit_blocks(&output, &blob, &ids).await?;
        if let Some(blob) = configurations {
            let views = self.hub.list_configurations(&access::Caller::system()).await?;
            self.put(&output, &blob, configurations::write(&views)).await?;
        }
        Ok(true)
    }

    /// One block more, and what it holds noted as written.
    pub(super) async fn export_some(&mut self) -> Result<(), Fault> {
        let Action::Export { output, blob, excludes_keys, .. } = self.job.record.action.clone() else {
            return Ok(());
        };
        let (mut progress, mut block) = (self.progress(), Vec::new());
        progress.all =
            u64::try_from(self.hub.store().counter(&self.hub.identities()).await?).unwrap_or_default();
        if excludes_keys && progress.blocks == 0 {
            block.extend_from_slice(WITHOUT_KEYS);
        }
        for _ in 0..caps::REGISTRY_JOB_PAGES_MAX {
            let is_full = block.len() >= caps::REGISTRY_JOB_BLOCK_BYTES;
            if is_full || progress.stage == Stage::Configurations || !self.goes_on().await? {
                break;
            }
            self.hub.export_page(&mut progress, &mut block, excludes_keys).await?;
        }
        if !block.is_empty() {
            let id = rules::block_id(&self.job.record.job_id, progress.blocks);
            let files = &self.hub.context().file_storage;
            files.put_block(&output, &blob, &id, Bytes::from(block)).await?;
            progress.blocks += 1;
        }
        Ok(self.write(progress).await?)
    }
}

impl Hub {
    /// Writes identities of the stage until there is no page more of them, or the block is full.
    async fn export_page(
        &self,
        progress: &mut Progress,
        block: &mut Vec<u8>,
        excludes_keys: bool,
    ) -> Result<(), Fault> {
        let kind = if progress.stage == Stage::Modules { MODULE } else { DEVICE };
        let after = match &progress.after {
            // Ids are read as they were written.
            Some(id) => id.parse::<IdentityId>().ok().map(|id| identity_key(self.instance(), &id)),
            None => None,
        };
        let prefix = Key::new([self.instance().as_str(), kind]);
        let scan = || Scan::new(prefix.clone(), caps::REGISTRY_JOB_IDENTITIES_AT_ONCE).after(after.clone());
        let identities = self.store().scan::<Identity>(scan()).await?;
        let twins = self.store().scan::<DeviceTwin>(scan()).await?;
        let mut twins: HashMap<IdentityId, DeviceTwin> =
            twins.into_iter().map(|stored| (stored.record.identity.clone(), stored.record)).collect();
        let is_last = identities.len() < caps::REGISTRY_JOB_IDENTITIES_AT_ONCE;
        for identity in identities.into_iter().map(|stored| stored.record) {
            progress.after = Some(identity.id.to_string());
            let is_of_stage = match progress.stage {
                Stage::First => identity.iot_edge,
                Stage::Devices => !identity.iot_edge,
                Stage::Modules | Stage::Configurations => true,
            };
            if !is_of_stage {
                continue;
            }
            let twin = match twins.remove(&identity.id) {
                // Made between the two looks, or gone.
                None => self
                    .store()
                    .get(&identity_key(self.instance(), &identity.id))
                    .await?
                    .map(|twin| twin.record),
                found => found,
            };
            let Some(twin) = twin else { continue };
            line::write(block, &identity, &twin, excludes_keys);
            progress.done += 1;
            if block.len() >= caps::REGISTRY_JOB_BLOCK_BYTES {
                return Ok(());
            }
        }
        if is_last {
            progress.after = None;
            progress.stage = match progress.stage {
                Stage::First => Stage::Devices,
                Stage::Devices => Stage::Modules,
                Stage::Modules | Stage::Configurations => Stage::Configurations,
            };
        }
        Ok(())
    }
}
