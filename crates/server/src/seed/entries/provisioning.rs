//! Provisioning services and their enrollments.

use std::path::Path;

use ::provisioning::attestation::{AttestationDraft, CertificateDraft, Pair, X509Draft};
use ::provisioning::enrollment::ReprovisionPolicy;
use ::provisioning::{AllocationPolicy, EnrollmentDraft, EnrollmentKind, RegistrationId, certificate};
use resource_manager::ResourceType;

use super::DEFAULT_SERVICE;
use super::hubs::Twin;
use super::resources::{self, Place};
use crate::seed::table::Table;

#[derive(Clone, Debug)]
pub(in crate::seed) struct Service {
    pub(in crate::seed) name: String,
    pub(in crate::seed) place: Place,
    pub(in crate::seed) linked_hubs: Vec<String>,
    pub(in crate::seed) allocation_policy: Option<AllocationPolicy>,
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct Enrollment {
    pub(in crate::seed) service: String,
    pub(in crate::seed) draft: EnrollmentDraft,
}

const POLICIES: [(&str, AllocationPolicy); 3] = [
    ("hashed", AllocationPolicy::Hashed),
    ("geoLatency", AllocationPolicy::GeoLatency),
    ("static", AllocationPolicy::Static),
];

impl Service {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = resources::name(table, ResourceType::ProvisioningService);
        Some(Self {
            place: Place::read(table),
            linked_hubs: table.texts("linked_hubs").unwrap_or_default(),
            allocation_policy: table.choice("allocation_policy", &POLICIES),
            name: name?,
        })
    }
}

impl Enrollment {
    pub(super) fn individual(table: &mut Table<'_>, folder: &Path) -> Option<Self> {
        let (device_id, information) = (table.parsed("device_id"), table.json("information"));
        let enrollment = Self::read(table, folder, EnrollmentKind::Individual)?;
        let draft =
            EnrollmentDraft { device_id, optional_device_information: information, ..enrollment.draft };
        Some(Self { draft, ..enrollment })
    }

    pub(super) fn group(table: &mut Table<'_>, folder: &Path) -> Option<Self> {
        Self::read(table, folder, EnrollmentKind::Group)
    }

    fn read(table: &mut Table<'_>, folder: &Path, kind: EnrollmentKind) -> Option<Self> {
        let id: Option<RegistrationId> = table.required("id");
        if let Some(id) = &id {
            table.name(id);
        }
        let reprovision = |update_hub_assignment, migrate_device_data| ReprovisionPolicy {
            update_hub_assignment,
            migrate_device_data,
        };
        let reprovisions = [
            ("migrate", reprovision(true, true)),
            ("reset", reprovision(true, false)),
            ("never", reprovision(false, false)),
        ];
        let service = table.text("service").unwrap_or_else(|| DEFAULT_SERVICE.to_owned());
        let attestation = attestation(table, folder, kind);
        let iot_hubs = table.texts("hubs").unwrap_or_default();
        let (is_enabled, iot_edge) =
            (table.flag("enabled").unwrap_or(true), table.flag("edge").unwrap_or(false));
        let (reprovision_policy, allocation_policy) =
            (table.choice("reprovision", &reprovisions), table.choice("allocation_policy", &POLICIES));
        let initial_twin = Twin::of(table).initial();
        if allocation_policy == Some(AllocationPolicy::Static) && iot_hubs.len() != 1 {
            table.fault("allocation_policy", "the static allocation policy needs exactly one of `hubs`");
        }
        let draft = EnrollmentDraft {
            kind,
            id: id?,
            device_id: None,
            optional_device_information: None,
            attestation: attestation?,
            iot_edge,
            iot_hub_host_name: None,
            initial_twin,
            is_enabled,
            reprovision_policy,
            allocation_policy,
            iot_hubs,
            custom_allocation: None,
            credential_policy_name: None,
        };
        Some(Self { service, draft })
    }
}

/// Keys unless something else is given; what is left open of them is made, or kept.
fn attestation(table: &Table<'_>, folder: &Path, kind: EnrollmentKind) -> Option<AttestationDraft> {
    let keys = AttestationDraft::SymmetricKey {
        primary_key: table.key("primary_key"),
        secondary_key: table.key("secondary_key"),
    };
    let has_keys = table.has("primary_key") || table.has("secondary_key");
    let certificates = pair(table, ["primary_certificate_file", "secondary_certificate_file"], |name| {
        let text = certificate_text(table, name, folder)?;
        Some(CertificateDraft { certificate: Some(text), has_info: false })
    });
    let references = pair(table, ["primary_ca_reference", "secondary_ca_reference"], |name| table.text(name));
    let tpm = table.text("endorsement_key");
    let storage_root_key = table.text("storage_root_key");
    let given = [has_keys, certificates.is_some(), references.is_some(), tpm.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        table.fault("id", "keys, certificates, CA references and a TPM's endorsement key exclude each other");
        return None;
    }
    let draft = match (certificates, references, tpm) {
        (Some(pair), ..) if kind == EnrollmentKind::Group => {
            AttestationDraft::X509(X509Draft::SigningCertificates(pair))
        }
        (Some(pair), ..) => AttestationDraft::X509(X509Draft::ClientCertificates(pair)),
        (_, Some(pair), _) => AttestationDraft::X509(X509Draft::CaReferences(pair)),
        (.., Some(endorsement_key)) if kind == EnrollmentKind::Individual => {
            AttestationDraft::Tpm { endorsement_key, storage_root_key }
        }
        (.., Some(_)) => {
            table.fault("endorsement_key", "a TPM cannot attest an enrollment group");
            return None;
        }
        (None, None, None) => keys,
    };
    Some(draft)
}

fn pair<T>(
    table: &Table<'_>,
    [primary, secondary]: [&'static str; 2],
    read: impl Fn(&'static str) -> Option<T>,
) -> Option<Pair<T>> {
    (table.has(primary) || table.has(secondary))
        .then(|| Pair { primary: read(primary), secondary: read(secondary) })
}

fn certificate_text(table: &Table<'_>, name: &'static str, folder: &Path) -> Option<String> {
    let path = folder.join(table.text(name)?);
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    let checked = text.and_then(|text| match certificate::parse(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(error.to_string()),
    });
    checked.map_err(|why| table.fault(name, format_args!("{}: {why}", path.display()))).ok()
}
