//! What Azure's monitoring shows of a hub, a provisioning service and a Digital Twins instance, under names of ours; the help text has
//! Azure's, so that whoever moves a dashboard finds the pair.

use base::measure::{Count, Outcomes};
use digital_twins::Instances;
use hub::{Hubs, Measures};
use provisioning::Services;
use rest::admin::{Family, Kind};

use crate::house::House;

pub(super) fn families(house: &House) -> Vec<Family> {
    let mut all = vec![devices(&house.hubs), connected(&house.hubs)];
    all.extend(counts(&house.hubs));
    all.extend(outcomes(&house.hubs));
    all.extend(provisioning(house.provisioning()));
    all.push(digital_twins(house.instances()));
    all
}

fn devices(hubs: &Hubs) -> Family {
    const HELP: &str = "Devices registered at a hub. Azure's totalDeviceCount (devices.totalDevices).";
    let hubs = hubs.clone();
    Family::waiting(Kind::Gauge, "twinhub_hub_devices", HELP, move |mut samples| {
        let hubs = hubs.clone();
        async move {
            for hub in hubs.all() {
                // A store that fails is told by other families.
                if let Ok(count) = hub.device_count().await {
                    samples.count(&[("hub", hub.name())], u64::try_from(count).unwrap_or(0));
                }
            }
            samples
        }
    })
}

fn connected(hubs: &Hubs) -> Family {
    const HELP: &str =
        "Devices connected to a hub. Azure's connectedDeviceCount (devices.connectedDevices.allProtocol).";
    let hubs = hubs.clone();
    Family::new(Kind::Gauge, "twinhub_hub_devices_connected", HELP, move |samples| {
        for hub in hubs.all() {
            samples.count(&[("hub", hub.name())], hub.devices_here());
        }
    })
}

type Counted = (&'static str, &'static str, fn(&Measures) -> &Count);

const COUNTS: [Counted; 6] = [
    (
        "twinhub_hub_telemetry_attempts_total",
        "Messages that devices tried to send to a hub. Azure's d2c.telemetry.ingress.allProtocol.",
        |m| &m.telemetry_attempts,
    ),
    (
        "twinhub_hub_telemetry_total",
        "Messages of devices that are durable. Azure's d2c.telemetry.ingress.success.",
        |m| &m.telemetry_stored,
    ),
    ("twinhub_hub_telemetry_bytes_total", "Bytes of the bodies of messages that devices sent.", |m| {
        &m.telemetry_bytes
    }),
    (
        "twinhub_hub_telemetry_throttled_total",
        "Messages of devices that were throttled. Azure's d2c.telemetry.ingress.sendThrottle.",
        |m| &m.telemetry_throttled,
    ),
    (
        "twinhub_hub_method_request_bytes_total",
        "Bytes of the payloads of direct methods. Azure's c2d.methods.requestSize, as a sum.",
        |m| &m.method_request_bytes,
    ),
    (
        "twinhub_hub_method_response_bytes_total",
        "Bytes of the answers to direct methods. Azure's c2d.methods.responseSize, as a sum.",
        |m| &m.method_response_bytes,
    ),
];

fn counts(hubs: &Hubs) -> impl Iterator<Item = Family> + use<> {
    let hubs = hubs.clone();
    COUNTS.into_iter().map(move |(name, help, pick)| {
        let hubs = hubs.clone();
        Family::new(Kind::Counter, name, help, move |samples| {
            for hub in hubs.all() {
                samples.count(&[("hub", hub.name())], pick(hub.measures()).get());
            }
        })
    })
}

type Judged = (&'static str, &'static str, fn(&Measures) -> &Outcomes);

const OUTCOMES: [Judged; 5] = [
    (
        "twinhub_hub_methods_total",
        "Direct methods that services called. Azure's c2d.methods.success and c2d.methods.failure.",
        |m| &m.methods,
    ),
    (
        "twinhub_hub_service_twin_reads_total",
        "Twins that services read. Azure's c2d.twin.read.success and c2d.twin.read.failure.",
        |m| &m.twin_reads_by_services,
    ),
    (
        "twinhub_hub_service_twin_updates_total",
        "Twins that services changed. Azure's c2d.twin.update.success and c2d.twin.update.failure.",
        |m| &m.twin_updates_by_services,
    ),
    (
        "twinhub_hub_device_twin_reads_total",
        "Twins that devices read. Azure's d2c.twin.read.success and d2c.twin.read.failure.",
        |m| &m.twin_reads_by_devices,
    ),
    (
        "twinhub_hub_device_twin_updates_total",
        "Reported properties that devices changed. Azure's d2c.twin.update.success and d2c.twin.update.failure.",
        |m| &m.twin_updates_by_devices,
    ),
];

fn outcomes(hubs: &Hubs) -> impl Iterator<Item = Family> + use<> {
    let hubs = hubs.clone();
    OUTCOMES.into_iter().map(move |(name, help, pick)| {
        let hubs = hubs.clone();
        Family::new(Kind::Counter, name, help, move |samples| {
            for hub in hubs.all() {
                let outcomes = pick(hub.measures());
                samples.count(&[("hub", hub.name()), ("result", "success")], outcomes.success.get());
                samples.count(&[("hub", hub.name()), ("result", "failure")], outcomes.failure.get());
            }
        })
    })
}

fn provisioning(services: &Services) -> [Family; 3] {
    type Pick = fn(&provisioning::Measures) -> &Outcomes;
    const ATTESTATIONS: &str =
        "Tries of devices to prove that they belong to an enrollment. Azure's AttestationAttempts.";
    const REGISTRATIONS: &str = "Tries of devices to register. Azure's RegistrationAttempts.";
    const ASSIGNMENTS: &str = "Registrations that ended at a hub. Azure's DeviceAssignments.";
    let judged = |name, help, pick: Pick| {
        let services = services.clone();
        Family::new(Kind::Counter, name, help, move |samples| {
            for service in services.all() {
                let outcomes = pick(service.measures());
                samples.count(&[("service", service.name()), ("result", "success")], outcomes.success.get());
                samples.count(&[("service", service.name()), ("result", "failure")], outcomes.failure.get());
            }
        })
    };
    let assigning = services.clone();
    [
        judged("twinhub_provisioning_attestations_total", ATTESTATIONS, |m| &m.attestations),
        judged("twinhub_provisioning_registrations_total", REGISTRATIONS, |m| &m.registrations),
        Family::new(Kind::Counter, "twinhub_provisioning_assignments_total", ASSIGNMENTS, move |samples| {
            for service in assigning.all() {
                samples.count(&[("service", service.name())], service.measures().assignments.get());
            }
        }),
    ]
}

fn digital_twins(instances: &Instances) -> Family {
    const HELP: &str = "Digital twins of an instance. Azure's TwinCount.";
    let instances = instances.clone();
    Family::waiting(Kind::Gauge, "twinhub_digital_twins", HELP, move |mut samples| {
        let instances = instances.clone();
        async move {
            for instance in instances.all() {
                if let Ok(count) = instance.digital_twin_count().await {
                    samples.count(&[("instance", instance.name())], u64::try_from(count).unwrap_or(0));
                }
            }
            samples
        }
    })
}
