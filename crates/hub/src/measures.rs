//! What a hub counts of what it does, as Azure's monitoring of a hub does. Filled by the operations, read for `/metrics`.

use base::measure::{Count, Outcomes};

#[derive(Debug, Default)]
pub struct Measures {
    /// Messages that devices tried to send.
    pub telemetry_attempts: Count,
    /// Those of them that are durable.
    pub telemetry_stored: Count,
    pub telemetry_bytes: Count,
    pub telemetry_throttled: Count,
    pub methods: Outcomes,
    pub method_request_bytes: Count,
    pub method_response_bytes: Count,
    pub twin_reads_by_services: Outcomes,
    pub twin_updates_by_services: Outcomes,
    pub twin_reads_by_devices: Outcomes,
    pub twin_updates_by_devices: Outcomes,
}
