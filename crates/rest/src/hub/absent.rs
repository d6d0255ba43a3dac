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
