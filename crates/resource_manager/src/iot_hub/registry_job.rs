//! Import and export of a hub's registry, as Resource Manager asks for it (`iothub-service.md` §15). The hub does it; here is who may
//! have it done.

use access::Caller;
use hub::Hub;
use hub::registry_job::{Kind, RegistryJob, RegistryJobId, RegistryJobSpec};

use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;

const EXPORT: &str = "Microsoft.Devices/iotHubs/exportDevices/Action";
const IMPORT: &str = "Microsoft.Devices/iotHubs/importDevices/Action";
const READ: &str = "Microsoft.Devices/iotHubs/jobs/Read";

impl ResourceManager {
    /// `IotHubResource_export_devices`, `IotHubResource_import_devices`.
    pub async fn create_registry_job(
        &self,
        caller: &Caller,
        id: &ResourceId,
        spec: &RegistryJobSpec,
    ) -> Result<RegistryJob, Error> {
        let action = match spec.kind {
            Kind::Export => EXPORT,
            Kind::Import => IMPORT,
        };
        let hub = self.hub_for_jobs(caller, action, id).await?;
        Ok(hub.create_registry_job(&Caller::system(), spec).await?)
    }

    /// `IotHubResource_list_jobs`.
    pub async fn registry_jobs(&self, caller: &Caller, id: &ResourceId) -> Result<Vec<RegistryJob>, Error> {
        let hub = self.hub_for_jobs(caller, READ, id).await?;
        Ok(hub.list_registry_jobs(&Caller::system()).await?)
    }

    /// `IotHubResource_get_job`.
    pub async fn registry_job(
        &self,
        caller: &Caller,
        id: &ResourceId,
        job_id: &str,
    ) -> Result<RegistryJob, Error> {
        let hub = self.hub_for_jobs(caller, READ, id).await?;
        let unknown = |_| hub::Error::JobNotFound(job_id.chars().take(64).collect());
        let job_id: RegistryJobId = job_id.parse().map_err(unknown)?;
        Ok(hub.get_registry_job(&Caller::system(), &job_id).await?)
    }

    async fn hub_for_jobs(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &ResourceId,
    ) -> Result<Hub, Error> {
        self.allow(caller, action, &id.scope(), &id.group.subscription).await?;
        self.hub_of(&self.must_get(id).await?).await
    }
}
