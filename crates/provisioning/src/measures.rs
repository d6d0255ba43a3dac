//! What a provisioning service counts of what it does, as Azure's monitoring of one does. Read for `/metrics`.

use base::measure::{Count, Outcomes};

#[derive(Debug, Default)]
pub struct Measures {
    pub attestations: Outcomes,
    pub registrations: Outcomes,
    /// Registrations that ended at a hub.
    pub assignments: Count,
}
