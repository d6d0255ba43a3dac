//! What a first start makes: a subscription, a resource group, a hub, a provisioning service linked to it, a Digital Twins
//! instance, a storage account. Called by the server before its doors open; safe to repeat at every start.

use access::{Caller, Right, SharedAccessPolicy};
use base::hosts::Service;
use base::{Key, Secret};
use hub::HubSettings;
use provisioning::ServiceSettings;

use crate::error::Error;
use crate::id::{GroupId, ResourceId};
use crate::policy::PolicyRequest;
use crate::provider::ResourceType;
use crate::subscription::{FirstStart, Subscription};
use crate::{Accepted, ResourceManager, group, instance, iot_hub, provisioning_service, storage_account};

/// The account that hubs use which have none of their own.
pub const DEFAULT_STORAGE_ACCOUNT: &str = "storage";

/// The names of the default resources.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub subscription_id: String,
    pub subscription_name: String,
    pub tenant_id: String,
    pub resource_group: String,
    pub location: String,
    pub hub: String,
    pub provisioning_service: String,
    pub digital_twins: String,
    pub storage_account: String,
    /// Keys of the policies of hub and provisioning service that are not made up.
    pub keys: Option<PolicyKeys>,
}

/// Makes the keys of a policy from whose it is (`hub` or `dps`) and its name.
pub type PolicyKeys = fn(&str, &str) -> (Key, Key);

/// The ids of what [`ResourceManager::ensure_defaults`] made or found.
#[derive(Clone, Debug)]
pub struct DefaultResources {
    pub resource_group: GroupId,
    pub hub: ResourceId,
    pub provisioning_service: ResourceId,
    pub digital_twins: ResourceId,
    pub storage_account: ResourceId,
}

impl Defaults {
    /// The names in this product: `twinhub`, `hub`, `dps`, `twins` and `storage` in `eastus`.
    pub fn new(subscription_id: &str, tenant_id: &str) -> Self {
        Self {
            subscription_id: subscription_id.to_owned(),
            subscription_name: "twinhub".to_owned(),
            tenant_id: tenant_id.to_owned(),
            resource_group: "twinhub".to_owned(),
            location: "eastus".to_owned(),
            hub: "hub".to_owned(),
            provisioning_service: "dps".to_owned(),
            digital_twins: "twins".to_owned(),
            storage_account: DEFAULT_STORAGE_ACCOUNT.to_owned(),
            keys: None,
        }
    }

    fn ids(&self) -> DefaultResources {
        let group = GroupId::new(&self.subscription_id, &self.resource_group);
        let id = |resource_type, name: &str| ResourceId::new(&group, resource_type, name);
        DefaultResources {
            hub: id(ResourceType::IotHub, &self.hub),
            provisioning_service: id(ResourceType::ProvisioningService, &self.provisioning_service),
            digital_twins: id(ResourceType::DigitalTwinsInstance, &self.digital_twins),
            storage_account: id(ResourceType::StorageAccount, &self.storage_account),
            resource_group: group,
        }
    }
}

impl ResourceManager {
    /// Makes what is missing of the defaults, on the very first start only: what an operator deleted later stays deleted.
    pub async fn ensure_defaults(&self, defaults: &Defaults) -> Result<DefaultResources, Error> {
        let (ids, caller) = (defaults.ids(), Caller::system());
        match self.first_start_over().await? {
            Some(FirstStart { has_storage: true, .. }) => return Ok(ids),
            Some(_) => {
                self.ensure_storage_later(&caller, &ids, &defaults.location).await?;
                return Ok(ids);
            }
            None => {}
        }
        self.finish_all().await?;
        self.ensure_subscription(&Subscription {
            id: defaults.subscription_id.clone(),
            display_name: defaults.subscription_name.clone(),
            tenant_id: defaults.tenant_id.clone(),
        })
        .await?;
        let location = Some(defaults.location.clone());
        let put = group::Put { location: location.clone(), ..group::Put::default() };
        self.put_resource_group(&caller, &ids.resource_group, &put).await?;
        self.ensure_default_hub(&caller, &ids.hub, location.clone(), defaults.keys).await?;
        self.ensure_default_service(&caller, &ids, location.clone(), defaults.keys).await?;
        if self.stored(&ids.digital_twins).await?.is_none() {
            let put = instance::Put { location: location.clone(), ..instance::Put::default() };
            let accepted = self.put_digital_twins_instance(&caller, &ids.digital_twins, &put).await?;
            self.finish_accepted(&accepted).await?;
        }
        self.ensure_default_storage(&caller, &ids.storage_account, location).await?;
        self.mark_first_start_over().await?;
        Ok(ids)
    }

    async fn ensure_default_storage(
        &self,
        caller: &Caller,
        id: &ResourceId,
        location: Option<String>,
    ) -> Result<(), Error> {
        if self.stored(id).await?.is_some() {
            return Ok(());
        }
        let put = storage_account::Put { location, ..storage_account::Put::default() };
        let accepted = self.put_storage_account(caller, id, &put).await?;
        self.finish_accepted(&accepted).await
    }

    /// The first start was that of a version without storage accounts. Where there is no room for one by now, since its group was
    /// removed or another account has the name, there will be none.
    async fn ensure_storage_later(
        &self,
        caller: &Caller,
        ids: &DefaultResources,
        location: &str,
    ) -> Result<(), Error> {
        match self.ensure_default_storage(caller, &ids.storage_account, Some(location.to_owned())).await {
            Err(Error::Store(error)) => return Err(Error::Store(error)),
            Err(error) => tracing::info!(%error, "there is no default storage account"),
            Ok(()) => {}
        }
        self.mark_first_start_over().await
    }

    async fn ensure_default_hub(
        &self,
        caller: &Caller,
        id: &ResourceId,
        location: Option<String>,
        keys: Option<PolicyKeys>,
    ) -> Result<(), Error> {
        if self.stored(id).await?.is_some() {
            return Ok(());
        }
        let properties = iot_hub::PropertiesRequest {
            sku_name: Some("S1".to_owned()),
            policies: keys.map(|keys| with_keys("hub", &HubSettings::default_policies(), keys)),
            ..iot_hub::PropertiesRequest::default()
        };
        let put = iot_hub::Put { location, properties, ..iot_hub::Put::default() };
        let accepted = self.put_iot_hub(caller, id, &put).await?;
        self.finish_accepted(&accepted).await
    }

    async fn ensure_default_service(
        &self,
        caller: &Caller,
        ids: &DefaultResources,
        location: Option<String>,
        keys: Option<PolicyKeys>,
    ) -> Result<(), Error> {
        if self.stored(&ids.provisioning_service).await?.is_some() {
            return Ok(());
        }
        let owner = self.shared_access_policy(caller, &ids.hub, "iothubowner").await?;
        // By name: it is stored, and addresses change with the settings of the server.
        let host = self.hosts.canonical(Service::Hub, &ids.hub.name, "");
        let link = provisioning_service::LinkedHubRequest {
            connection_string: Secret::new(owner.connection_string(&host).expose()),
            location: location.clone(),
            ..provisioning_service::LinkedHubRequest::default()
        };
        let properties = provisioning_service::PropertiesRequest {
            linked_hubs: vec![link],
            policies: keys.map(|keys| with_keys("dps", &ServiceSettings::default_policies(), keys)),
            ..provisioning_service::PropertiesRequest::default()
        };
        let put = provisioning_service::Put { location, properties, ..provisioning_service::Put::default() };
        let accepted = self.put_provisioning_service(caller, &ids.provisioning_service, &put).await?;
        self.finish_accepted(&accepted).await
    }

    /// Does at once what would be left to the loop.
    pub async fn finish_accepted(&self, accepted: &Accepted) -> Result<(), Error> {
        match &accepted.operation {
            Some(operation) => self.finish_now(operation).await?,
            None => Ok(()),
        }
    }
}

/// The same policies with keys that are not made up.
fn with_keys(whose: &str, policies: &[SharedAccessPolicy], keys: PolicyKeys) -> Vec<PolicyRequest> {
    let request = |policy: &SharedAccessPolicy| {
        let (primary, secondary) = keys(whose, &policy.key_name);
        PolicyRequest {
            key_name: policy.key_name.clone(),
            primary_key: Some(Secret::from(&primary)),
            secondary_key: Some(Secret::from(&secondary)),
            rights: Right::write_list(&policy.rights),
        }
    };
    policies.iter().map(request).collect()
}
