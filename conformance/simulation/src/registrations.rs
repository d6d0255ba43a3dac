//! Devices that register through provisioning until they are told that they are assigned.

use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use base::sas::{self, SasToken};
use base::{IfMatch, Key, Secret};
use provisioning::attestation::AttestationDraft;
use provisioning::view::RegistrationRequest;
use provisioning::{EnrollmentDraft, EnrollmentKind, RegistrationId, RegistrationState, Service};

use crate::house::{House, text};
use crate::world::World;

const API_VERSION: &str = "2021-06-01";

fn service(house: &House) -> Service {
    house.services.find("dps").expect("nobody removes the default service")
}

fn id(name: &str) -> RegistrationId {
    name.parse().expect("a registration id")
}

/// The group of all devices here.
pub(crate) async fn enroll(house: &House, key: &Key) -> Result<(), String> {
    let text_of_key = Some(Secret::from(key));
    let attestation =
        AttestationDraft::SymmetricKey { primary_key: text_of_key.clone(), secondary_key: text_of_key };
    let draft = EnrollmentDraft {
        kind: EnrollmentKind::Group,
        id: id("simulated"),
        device_id: None,
        optional_device_information: None,
        attestation,
        iot_edge: false,
        iot_hub_host_name: None,
        initial_twin: None,
        is_enabled: true,
        reprovision_policy: None,
        allocation_policy: None,
        iot_hubs: Vec::new(),
        custom_allocation: None,
        credential_policy_name: None,
    };
    service(house).put_enrollment(&Caller::system(), &draft, &IfMatch::Absent).await.map(drop).map_err(text)
}

/// Registers, and again from time to time.
pub(crate) async fn register(world: Arc<World>, name: String, key: Key) {
    let mut rng = world.fork();
    let derived = key.derive(&name);
    while !world.is_over() {
        world.pause(&mut rng, 20_000).await;
        try_to_register(&world, &name, &derived).await;
    }
}

pub(crate) async fn try_to_register(world: &World, name: &str, key: &Key) {
    let registered = world.ask(format!("register {name}"), async |house| {
        let service = service(house);
        let resource = format!("{}/registrations/{name}", service.id_scope());
        let expires_at = world.clock.now().plus(Duration::from_mins(10));
        let token = SasToken::parse(&sas::build(&resource, key, expires_at, Some("registration")));
        let token = token.map_err(text)?;
        let device =
            service.authenticate(&id(name), Some(&token)).await.map_err(|refused| text(refused.error))?;
        let version = API_VERSION.parse().map_err(text)?;
        let operation =
            service.register(&device, &version, &RegistrationRequest::default()).await.map_err(text)?;
        service.operation_status(&device, &operation.operation_id).await.map_err(text)
    });
    registered.await;
}

/// In the end each is assigned, and its device is there.
pub(crate) async fn check(world: &World, names: &[String], key: &Key) {
    for name in names {
        try_to_register(world, name, &key.derive(name)).await;
        let registration = world.insist(format!("registration of {name}"), async |house| {
            service(house).get_registration(&Caller::system(), &id(name)).await
        });
        let registration = registration.await;
        let is_assigned = matches!(registration.state, RegistrationState::Assigned { .. });
        let Some(assignment) = registration.assignment.filter(|_| is_assigned) else {
            world.fail(format!("{name} is {:?}", registration.state));
            continue;
        };
        let device = world.ask(format!("device of {name}"), async |house| {
            let hub = house.hubs.get(&assignment.hub_instance).ok_or("its hub is gone".to_owned())?;
            hub.get_device(&Caller::system(), &assignment.device_id).await.map_err(text)
        });
        if device.await.ok().is_none() {
            world.fail(format!("{name} is assigned, and has no device"));
        }
    }
}
