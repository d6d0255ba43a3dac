//! All provisioning services of one server. Resource Manager calls `ensure` and `remove`; doors find one by host or by id scope.
//! Their life is that of every instance, `store::instances`.

use std::net::IpAddr;
use std::ops::Deref;

use base::hosts::{Host, Hosts, Service as HostedService};
use base::tasks::Tasks;
use base::{Clock, Throttle};
use hub::Hubs;
use store::instances::{Current, Instances, Kind};
use store::{Store, StoreError};

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
pub struct Services(Instances<Context>);

impl Kind for Context {
    type Settings = ServiceSettings;
    type Instance = Service;

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn start(&self, settings: Current<ServiceSettings>) -> Service {
        Service::new(self.clone(), settings)
    }
}

impl Deref for Services {
    type Target = Instances<Context>;

    fn deref(&self) -> &Instances<Context> {
        &self.0
    }
}

impl Services {
    pub fn new(context: Context) -> Self {
        let (store, hosts) = (context.store.clone(), context.hosts.clone());
        Self(Instances::new(context, store, hosts))
    }

    /// Starts every stored service, and finishes the assignments that a stop cut off. The hubs are loaded before.
    pub async fn load(&self) -> Result<(), StoreError> {
        self.0.load().await?;
        for service in self.all() {
            service.finish_assignments().await;
        }
        Ok(())
    }

    /// The service that devices mean: the id scope chooses, whatever host they dialled.
    pub fn by_id_scope(&self, id_scope: &str) -> Option<Service> {
        self.all().into_iter().find(|service| service.id_scope().eq_ignore_ascii_case(id_scope))
    }

    /// The service of an instance that a host name stands for; at an unnamed host, the default one.
    pub fn at_host(&self, host: &str, local: Option<IpAddr>) -> Option<Service> {
        let hosts = &self.kind().hosts;
        match hosts.resolve(host, local) {
            Host::Instance(HostedService::Provisioning, name) => self.find(&name),
            Host::Unnamed | Host::GlobalProvisioning => {
                self.find(&hosts.default_instance(HostedService::Provisioning)?)
            }
            Host::Instance(..) | Host::UnknownInstance(_) => None,
        }
    }
}
