//! Messages over an open connection. Which ones a session has under way is known to it alone and written nowhere: when it ends they
//! are simply in the queue, and the next session has them anew.

use base::caps;
use base::ids::IdentityId;
use store::retry_on_conflict;

use super::change::Change;
use super::message::{Outcome, Received};
use super::record::QueuedMessage;
use crate::error::Error;
use crate::hub::Hub;
use crate::sessions::Session;

impl Session {
    /// Whether the device takes messages. One that begins to is told at once to look into its queue.
    pub fn listen_to_messages(&self, listens: bool) {
        // Modules have no queue.
        self.mailbox().listen_to_messages(listens && self.identity().module_id.is_none());
    }

    /// Messages that wait and are not among those under way, in their order; at most as many as may be under way besides. None is
    /// given to a session that was closed or displaced: its successor may have completed it meanwhile.
    pub fn waiting_messages(
        &self,
        under_way: Vec<u64>,
    ) -> impl Future<Output = Result<Vec<Received>, Error>> + Send + 'static {
        let (hub, id, leave) = (self.hub().clone(), self.identity().clone(), self.leave_to_work());
        async move {
            // Until the messages are given, so that a successor begins after that.
            let _leave = leave.ok_or(Error::DeviceConnectionClosedRemotely)?;
            hub.waiting_messages(&id, &under_way).await
        }
    }

    /// The device has these messages for good. Nothing is completed for a session that was closed or displaced: its successor has them
    /// already.
    pub fn complete_messages(
        &self,
        sequences: Vec<u64>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let (hub, id, leave) = (self.hub().clone(), self.identity().clone(), self.leave_to_work());
        self.touch();
        async move {
            let leave = leave.ok_or(Error::DeviceConnectionClosedRemotely)?;
            let completing = hub.clone();
            let work = async move {
                let done = retry_on_conflict(async || completing.complete(&id, &sequences).await).await;
                drop(leave);
                done
            };
            hub.to_the_end(work).await
        }
    }
}

impl Hub {
    async fn waiting_messages(&self, id: &IdentityId, under_way: &[u64]) -> Result<Vec<Received>, Error> {
        let room = caps::CLOUD_TO_DEVICE_WINDOW.saturating_sub(under_way.len());
        let is_new = |message: &QueuedMessage| !under_way.contains(&message.sequence);
        let found = self.free_messages(&id.device_id, room, is_new).await?;
        Ok(found.iter().map(|message| Received::of(&message.record)).collect())
    }

    async fn complete(&self, id: &IdentityId, sequences: &[u64]) -> Result<(), Error> {
        let mut change = Change::of(self, &id.device_id).await?;
        let mut is_changed = false;
        for sequence in sequences {
            let key = QueuedMessage::key_of(self.instance(), &id.device_id, *sequence);
            // It may have expired or been purged under way.
            if let Some(message) = self.store().get::<QueuedMessage>(&key).await? {
                change.end(&message, Outcome::Success);
                is_changed = true;
            }
        }
        if is_changed { change.commit().await } else { Ok(()) }
    }
}
