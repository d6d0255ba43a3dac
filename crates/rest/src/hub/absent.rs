//! What a hub of Azure answers over HTTPS and ours does not yet. Each line goes when its operation comes.

use super::HubDoor;
use crate::router::Routes;

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .lacks("GET", "/jobs", "Jobs_GetImportExportJobs")
        .lacks("POST", "/jobs/create", "Jobs_CreateImportExportJob")
        .lacks("DELETE", "/jobs/{id}", "Jobs_CancelImportExportJob")
        .lacks("GET", "/jobs/{id}", "Jobs_GetImportExportJob")
}

/// What devices ask of a hub over HTTPS (`iothub-device.md` §1, §3.6, §4.4, §7); the published lists leave it out.
pub(super) fn device_routes() -> Routes<HubDoor> {
    Routes::new()
        .lacks("POST", "/devices/{id}/files", "Device_CreateFileUploadSasUri")
        .lacks("POST", "/devices/{id}/files/notifications", "Device_UpdateFileUploadStatus")
        .lacks("POST", "/devices/{id}/files/notifications/{correlationId}", "Device_UpdateFileUploadStatus")
}
