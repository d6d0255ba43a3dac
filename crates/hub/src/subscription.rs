//! What a client subscribed to in a session that outlives its connection. The door gives the filters their meaning.

use base::ids::IdentityId;
use base::{InstanceId, caps};
use serde::{Deserialize, Serialize};
use store::{Batch, CommitError, Key, Record, Table, table};

use crate::error::Error;
use crate::hub::Hub;
use crate::identity::{Identity, identity_key};
use crate::sessions::Session;

/// The filters of one identity's stored session, with the quality of service granted to each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Subscription {
    pub(crate) instance: InstanceId,
    #[serde(flatten, with = "crate::identity::flat_identity")]
    pub(crate) id: IdentityId,
    pub(crate) filters: Vec<(String, u8)>,
}

impl Record for Subscription {
    const TABLE: Table = table::SUBSCRIPTION;

    fn key(&self) -> Key {
        identity_key(&self.instance, &self.id)
    }
}

impl Hub {
    /// `None`: there is no stored session. What an earlier connection was storing when it was displaced has landed or never will:
    /// its end was confirmed before this one began.
    pub async fn stored_filters(&self, session: &Session) -> Result<Option<Vec<(String, u8)>>, Error> {
        let key = identity_key(self.instance(), session.identity());
        let stored = self.store().get::<Subscription>(&key).await?;
        Ok(stored.map(|stored| stored.record.filters))
    }

    /// Refused to a session that was closed or displaced: the filters are its successor's.
    pub async fn store_filters(&self, session: &Session, filters: Vec<(String, u8)>) -> Result<(), Error> {
        if filters.iter().map(|(filter, _)| filter.len()).sum::<usize>() > caps::SUBSCRIPTION_BYTES_MAX {
            return Err(Error::invalid("The subscriptions are too long."));
        }
        let leave = session.leave_to_work().ok_or(Error::DeviceConnectionClosedRemotely)?;
        let id = session.identity().clone();
        let subscription = Subscription { instance: self.instance().clone(), id, filters };
        let mut batch = Batch::default();
        batch.guard_exists::<Identity>(subscription.key());
        batch.put(&subscription);
        let committed = self.store().commit(batch).await;
        drop(leave);
        match committed {
            Err(CommitError::Conflict) => {
                Err(Error::DeviceNotFound(session.identity().device_id.to_string()))
            }
            other => Ok(other.map(drop)?),
        }
    }

    /// Refused like [`Self::store_filters`].
    pub async fn remove_filters(&self, session: &Session) -> Result<(), Error> {
        let _leave = session.leave_to_work().ok_or(Error::DeviceConnectionClosedRemotely)?;
        let mut batch = Batch::default();
        batch.remove::<Subscription>(identity_key(self.instance(), session.identity()));
        Ok(self.store().commit(batch).await.map(drop)?)
    }
}
