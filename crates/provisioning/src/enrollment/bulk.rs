//! Several enrollments in one call (`dps.md` §3.5). Each succeeds or fails for itself; nothing ties them together.

use access::Caller;
use base::IfMatch;

use super::{EnrollmentDraft, EnrollmentKind, delete_permission, write_permission};
use crate::error::Error;
use crate::ids::RegistrationId;
use crate::service::Service;

/// What is to happen with every enrollment of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkMode {
    Create,
    /// Replaces, or makes what is not there.
    Update,
    UpdateIfMatchEtag,
    Delete,
}

impl BulkMode {
    /// In any case, as the service takes it.
    pub fn parse(text: &str) -> Option<Self> {
        const NAMES: [(&str, BulkMode); 4] = [
            ("create", BulkMode::Create),
            ("update", BulkMode::Update),
            ("updateIfMatchETag", BulkMode::UpdateIfMatchEtag),
            ("delete", BulkMode::Delete),
        ];
        NAMES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, mode)| mode)
    }
}

/// One enrollment of a call, as far as it could be read. Deleting needs no more than the id.
#[derive(Clone, Debug)]
pub struct BulkItem {
    /// As it was sent.
    pub id: String,
    pub draft: Result<EnrollmentDraft, Error>,
    pub etag: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkFailure {
    pub id: String,
    pub error: Error,
}

impl Service {
    /// `IndividualEnrollment_RunBulkOperation`, `EnrollmentGroup_RunBulkOperation`: the failures, in the order of the items.
    pub async fn run_bulk_operation(
        &self,
        caller: &Caller,
        kind: EnrollmentKind,
        mode: BulkMode,
        items: &[BulkItem],
    ) -> Result<Vec<BulkFailure>, Error> {
        let permission = match mode {
            BulkMode::Delete => delete_permission(kind),
            BulkMode::Create | BulkMode::Update | BulkMode::UpdateIfMatchEtag => write_permission(kind),
        };
        self.admit(caller, permission)?;
        let mut failures = Vec::new();
        for item in items {
            if let Err(error) = self.run_one(caller, kind, mode, item).await {
                failures.push(BulkFailure { id: item.id.clone(), error });
            }
        }
        Ok(failures)
    }

    async fn run_one(
        &self,
        caller: &Caller,
        kind: EnrollmentKind,
        mode: BulkMode,
        item: &BulkItem,
    ) -> Result<(), Error> {
        let if_match = match mode {
            BulkMode::Create => IfMatch::Absent,
            BulkMode::Update => IfMatch::Any,
            BulkMode::UpdateIfMatchEtag => match IfMatch::parse(item.etag.as_deref()) {
                IfMatch::Absent => return Err(Error::bad("The enrollment has no etag.")),
                given => given,
            },
            BulkMode::Delete => {
                let id: RegistrationId =
                    item.id.parse().map_err(|error: base::ids::InvalidId| Error::bad(error.to_string()))?;
                return self.delete_enrollment(caller, kind, &id, &IfMatch::Any).await;
            }
        };
        let draft = item.draft.as_ref().map_err(Clone::clone)?;
        self.put_enrollment(caller, draft, &if_match).await.map(drop)
    }
}
