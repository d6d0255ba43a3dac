//! All provisioning services of one server. Resource Manager calls `ensure` and `remove`; doors find one by host or by id scope.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use base::hosts::{Host, Hosts, Service as HostedService};
use base::tasks::Tasks;
use base::{Clock, InstanceId, Throttle, caps};
use hub::Hubs;
use parking_lot::RwLock;
use store::{Batch, Key, Revision, Scan, Store, StoreError, retry_on_conflict};

use crate::error::Error;
use crate::service::Service;
use crate::settings::ServiceSettings;

/// What a service is given of its surroundings.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub clock: Clock,
    pub throttle: Throttle,
    pub hosts: Hosts,
    pub tasks: Tasks,
    pub hubs: Hubs,
}

/// Clones share the services.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

struct Inner {
    context: Context,
    services: RwLock<HashMap<InstanceId, Service>>,
}

impl Services {
    pub fn new(context: Context) -> Self {
        Self(Arc::new(Inner { context, services: RwLock::default() }))
    }

    /// Starts every stored service, and finishes the assignments that a stop cut off. The hubs are loaded before.
    pub async fn load(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let scan = Scan::new(Key::all(), caps::SCAN_PAGE).after(after);
            let page = self.0.context.store.scan::<ServiceSettings>(scan).await?;
            let Some(last) = page.last() else { break };
            after = Some(store::Record::key(&last.record));
            for stored in page {
                self.start(stored.record, stored.revision);
            }
        }
        for service in self.all() {
            service.finish_assignments().await;
        }
        Ok(())
    }

    /// Makes the service, or gives an existing one new settings. Safe to repeat. Instance, name, id scope and certificates of an
    /// existing service stay as they are.
    pub async fn ensure(&self, settings: ServiceSettings) -> Result<Service, Error> {
        let store = &self.0.context.store;
        let (settings, revision) = retry_on_conflict(async || {
            let mut settings = settings.clone();
            let mut batch = Batch::default();
            match store.get::<ServiceSettings>(&Key::instance(&settings.instance)).await? {
                None => batch.insert(&settings),
                Some(old) => {
                    settings.name.clone_from(&old.record.name);
                    settings.id_scope.clone_from(&old.record.id_scope);
                    settings.certificates.clone_from(&old.record.certificates);
                    batch.replace(&old, &settings);
                }
            }
            let committed = store.commit(batch).await?;
            Ok::<_, Error>((settings, committed.revision))
        })
        .await?;
        Ok(self.start(settings, revision))
    }

    /// Forgets everything of the service; the devices it assigned stay in their hubs. Safe to repeat.
    pub async fn remove(&self, instance: &InstanceId) -> Result<(), Error> {
        let removed = self.0.services.write().remove(instance);
        if let Some(service) = removed {
            self.0.context.hosts.forget(HostedService::Provisioning, service.name());
        }
        // Its own record goes first: what is written from now on fails, so that nothing is left behind the purge.
        let mut batch = Batch::default();
        batch.remove::<ServiceSettings>(Key::instance(instance));
        self.0.context.store.commit(batch).await?;
        Ok(self.0.context.store.remove_instance(instance).await?)
    }

    pub fn find(&self, name: &str) -> Option<Service> {
        self.0.services.read().values().find(|service| service.name().eq_ignore_ascii_case(name)).cloned()
    }

    pub fn get(&self, instance: &InstanceId) -> Option<Service> {
        self.0.services.read().get(instance).cloned()
    }

    /// The service that devices mean: the id scope chooses, whatever host they dialled.
    pub fn by_id_scope(&self, id_scope: &str) -> Option<Service> {
        self.0
            .services
            .read()
            .values()
            .find(|service| service.id_scope().eq_ignore_ascii_case(id_scope))
            .cloned()
    }

    /// The service of an instance that a host name stands for; at an unnamed host, the default one.
    pub fn at_host(&self, host: &str, local: Option<IpAddr>) -> Option<Service> {
        let hosts = &self.0.context.hosts;
        match hosts.resolve(host, local) {
            Host::Instance(HostedService::Provisioning, name) => self.find(&name),
            Host::Unnamed | Host::GlobalProvisioning => {
                self.find(&hosts.default_instance(HostedService::Provisioning)?)
            }
            Host::Instance(..) => None,
        }
    }

    /// In the order of their names.
    pub fn all(&self) -> Vec<Service> {
        let mut services: Vec<Service> = self.0.services.read().values().cloned().collect();
        services.sort_by(|a, b| a.name().cmp(b.name()));
        services
    }

    fn start(&self, settings: ServiceSettings, revision: Revision) -> Service {
        let mut services = self.0.services.write();
        if let Some(service) = services.get(&settings.instance) {
            service.apply(settings, revision);
            return service.clone();
        }
        let context = self.0.context.clone();
        context.hosts.register(
            HostedService::Provisioning,
            &settings.name,
            &settings.location,
            settings.is_default,
        );
        let service = Service::new(context, settings, revision);
        services.insert(service.instance().clone(), service.clone());
        service
    }
}
