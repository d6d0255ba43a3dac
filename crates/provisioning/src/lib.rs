//! Device provisioning: enrollments, attestation, allocation over linked hubs, registrations. Every rule of the service is here.
//! Called by the doors and by Resource Manager; calls the hubs it assigns devices to. It knows no protocol.

pub mod allocation;
pub mod attestation;
pub mod certificate;
pub mod enrollment;
mod error;
mod ids;
mod measures;
pub mod registration;
mod service;
mod services;
mod settings;
#[cfg(test)]
mod testing;
mod version;
pub mod view;

pub use enrollment::{Enrollment, EnrollmentDraft, EnrollmentKind};
pub use error::Error;
pub use ids::RegistrationId;
pub use measures::Measures;
pub use registration::{
    Assignment, Attested, Registration, RegistrationOperation, RegistrationState, Substatus,
};
pub use service::Service;
pub use services::{Context, Services};
pub use settings::{AllocationPolicy, LinkedHub, ServiceSettings};
pub use version::ApiVersion;
