//! The crate's one fixture: a service with linked hubs on a store in memory and a clock that stands still.

use std::time::Duration;

use access::{CaCertificate, CaCertificateDraft, Caller, Right};
use base::hosts::{Dialled, EveryName, Hosts};
use base::sas::{self, SasToken};
use base::tasks::Tasks;
use base::{Clock, IfMatch, InstanceId, Key, Scope, Secret, Throttle, Timestamp};
use hub::{Hub, HubSettings, Hubs};

use crate::attestation::AttestationDraft;
use crate::enrollment::{Enrollment, EnrollmentDraft, EnrollmentKind};
use crate::error::Error;
use crate::registration::{Registration, RegistrationOperation};
use crate::settings::{LinkedHub, ServiceSettings};
use crate::view::RegistrationRequest;
use crate::{Context, RegistrationId, Service, Services};

pub(crate) struct TestService {
    pub service: Service,
    pub services: Services,
    pub hubs: Hubs,
    pub clock: Clock,
}

pub(crate) const TODAY: &str = "2019-04-15";

/// A self-signed certificate of `CN=root`, made for these tests alone; its key is thrown away.
pub(crate) const CERTIFICATE: &str = "MIIBMjCB5aADAgECAhQkKnEABY07ZSSciByeWTNz6rHDtDAFBgMrZXAwDzENMAsGA1UEAwwEcm9vdDAeFw0yNjExMjIwMzI3MDNaFw0zNjExMTkwMzI3MDNaMA8xDTALBgNVBAMMBHJvb3QwKjAFBgMrZXADIQBpWI2QMAuLykbZZGoUH/PXotd6eQKTAvThblX3xWx0raNTMFEwHQYDVR0OBBYEFElNbK+mgd8+zDar06s0YUhUmjRrMB8GA1UdIwQYMBaAFElNbK+mgd8+zDar06s0YUhUmjRrMA8GA1UdEwEB/wQFMAMBAf8wBQYDK2VwA0EAz5dMoUHO5zDsCVFFhBLZHnq2IYFfvIEN0Dcnva/RZaQRA+YhTQMXCa2zTrQPOVwDjVulr9QyeLhD5HZvoeArCw==";

impl TestService {
    /// A service with the hubs `names` linked.
    pub(crate) async fn with_hubs(names: &[&str]) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_700_000_000));
        let (store, streams) = test_store::open();
        let hosts = Hosts::new("example.test", 443, EveryName);
        let (throttle, tasks) = (Throttle::unlimited(), Tasks::new());
        let events = events::Events::new(events::Context {
            store: store.clone(),
            streams: streams.clone(),
            clock: clock.clone(),
            event_hubs: std::sync::Arc::new(events::NoEventHubs),
            tasks: tasks.clone(),
            outbound: std::sync::Arc::new(base::outbound::NoOutbound),
        });
        let hubs = Hubs::new(hub::Context {
            store: store.clone(),
            streams,
            events,
            clock: clock.clone(),
            throttle: throttle.clone(),
            hosts: hosts.clone(),
            tasks: tasks.clone(),
            queue_depth: base::caps::CLOUD_TO_DEVICE_QUEUE_DEFAULT,
            file_storage: std::sync::Arc::new(hub::file_upload::NoFileStorage),
        });
        let mut settings = settings();
        for name in names {
            let scope = Scope::new(&format!("/hubs/{name}"));
            let hub = HubSettings::new(InstanceId::from_stored(*name), name, scope, "eastus");
            settings.linked_hubs.push(link(&hubs.ensure(hub).await.unwrap()));
        }
        let services = Services::new(Context {
            store,
            clock: clock.clone(),
            throttle,
            hosts,
            tasks,
            hubs: hubs.clone(),
        });
        let service = services.ensure(settings).await.unwrap();
        Self { service, services, hubs, clock }
    }

    pub(crate) fn owner(&self) -> Caller {
        let rights = [Right::ServiceConfig, Right::DeviceConnect, Right::EnrollmentWrite];
        Caller::policy(self.service.scope().clone(), "provisioningserviceowner", &rights)
    }

    pub(crate) async fn put_certificate(
        &self,
        draft: &CaCertificateDraft,
        if_match: &IfMatch,
    ) -> CaCertificate {
        self.service.change_certificates(|all, now| all.put(draft, if_match, now)).await.unwrap()
    }

    pub(crate) async fn put(&self, draft: &EnrollmentDraft) -> Result<Enrollment, Error> {
        self.service.put_enrollment(&self.owner(), draft, &IfMatch::Absent).await
    }

    pub(crate) async fn put_again(&self, draft: &EnrollmentDraft) -> Enrollment {
        self.service.put_enrollment(&self.owner(), draft, &IfMatch::Any).await.unwrap()
    }

    pub(crate) fn token(&self, id: &str, key: &Key) -> SasToken {
        let resource = format!("{}/registrations/{id}", self.service.id_scope());
        let expires_at = self.clock.now().plus(Duration::from_mins(1));
        SasToken::parse(&sas::build(&resource, key, expires_at, Some("registration"))).unwrap()
    }

    /// What a device with `key` is told in the end.
    pub(crate) async fn register(&self, id: &str, key: &Key) -> Result<Registration, Error> {
        self.register_as(id, key, TODAY).await
    }

    pub(crate) async fn register_as(
        &self,
        id: &str,
        key: &Key,
        api_version: &str,
    ) -> Result<Registration, Error> {
        let device = self.service.authenticate(&registration_id(id), Some(&self.token(id, key))).await;
        let device = device.map_err(|refused| refused.error)?;
        let RegistrationOperation { operation_id, .. } = self
            .service
            .register(&device, &api_version.parse().unwrap(), &RegistrationRequest::default())
            .await?;
        Ok(self.service.operation_status(&device, &operation_id).await?.registration)
    }
}

/// Of a service without hubs.
pub(crate) fn settings() -> ServiceSettings {
    ServiceSettings::new(InstanceId::from_stored("dps"), "dps", Scope::new("/dps"), "eastus")
}

/// An individual enrollment as it is stored when nothing was said but its id.
pub(crate) fn enrollment(id: &str) -> Enrollment {
    let (settings, now) = (settings(), Timestamp::from_unix_seconds(1_700_000_000));
    crate::enrollment::rules::put(
        &settings.instance,
        None,
        &individual(id),
        &settings,
        &|name| settings.linked_hub(name),
        now,
    )
    .unwrap()
}

/// A link to `hub` with its owner's key.
pub(crate) fn link(hub: &Hub) -> LinkedHub {
    let (settings, host_name) = (hub.settings(), hub.host_name(&Dialled::here()));
    let key = settings.policy("iothubowner").unwrap().primary_key.text();
    LinkedHub {
        connection_string: Secret::new(format!(
            "HostName={host_name};SharedAccessKeyName=iothubowner;SharedAccessKey={key}"
        )),
        host_name,
        hub_name: hub.name().to_owned(),
        location: "eastus".into(),
        allocation_weight: None,
        apply_allocation_policy: None,
    }
}

pub(crate) fn registration_id(id: &str) -> RegistrationId {
    id.parse().unwrap()
}

pub(crate) fn draft(kind: EnrollmentKind, id: &str) -> EnrollmentDraft {
    EnrollmentDraft {
        kind,
        id: registration_id(id),
        device_id: None,
        optional_device_information: None,
        attestation: AttestationDraft::SymmetricKey { primary_key: None, secondary_key: None },
        iot_edge: false,
        iot_hub_host_name: None,
        initial_twin: None,
        is_enabled: true,
        reprovision_policy: None,
        allocation_policy: None,
        iot_hubs: vec![],
        custom_allocation: None,
        credential_policy_name: None,
    }
}

pub(crate) fn individual(id: &str) -> EnrollmentDraft {
    draft(EnrollmentKind::Individual, id)
}

pub(crate) fn group(id: &str, key: &Key) -> EnrollmentDraft {
    let text = Some(key.into());
    let attestation = AttestationDraft::SymmetricKey { primary_key: text.clone(), secondary_key: text };
    EnrollmentDraft { attestation, ..draft(EnrollmentKind::Group, id) }
}

/// The primary key of a symmetric-key enrollment.
pub(crate) fn primary_key(enrollment: &Enrollment) -> Key {
    match &enrollment.attestation {
        crate::attestation::Attestation::SymmetricKey { primary_key, .. } => primary_key.clone(),
        other => panic!("{other:?} has no keys"),
    }
}
