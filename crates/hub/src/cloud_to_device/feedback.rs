//! What senders are told of the ends of their messages (`iothub-service.md` §7.4): one of the queues of `service_bound`.

use access::{Caller, Permission};
use base::{DeviceId, Timestamp, caps};
use serde::{Deserialize, Serialize};
use store::{Table, table};

use super::message::Outcome;
use super::record::QueuedMessage;
use crate::due::Work;
use crate::error::Error;
use crate::hub::Hub;
use crate::lock::{LockToken, Settlement};
use crate::service_bound::{Given, Notice};
use crate::settings::{HubSettings, ServiceBoundQueue};

/// The end of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    pub original_message_id: Option<String>,
    pub enqueued: Timestamp,
    pub outcome: Outcome,
    pub device_id: DeviceId,
    pub device_generation_id: String,
}

impl Told {
    pub(super) fn of(message: &QueuedMessage, outcome: Outcome, now: Timestamp) -> Self {
        Self {
            original_message_id: message.properties.message_id.clone(),
            enqueued: now,
            outcome,
            device_id: message.device_id.clone(),
            device_generation_id: message.generation_id.clone(),
        }
    }
}

impl Notice for Told {
    const NAME: &'static str = "feedback";
    const WAITING: Table = table::FEEDBACK;
    const GIVEN: Table = table::FEEDBACK_BATCH;
    const TOGETHER: usize = caps::FEEDBACK_BATCH_MAX;
    const EXPIRY: Work = Work::Feedback;
    const PERMISSION: Permission = Permission::CloudToDeviceFeedback;

    fn queue(settings: &HubSettings) -> ServiceBoundQueue {
        settings.cloud_to_device.feedback
    }

    fn enqueued(&self) -> Timestamp {
        self.enqueued
    }

    fn device_id(&self) -> &DeviceId {
        &self.device_id
    }
}

impl Hub {
    /// Feedback that nobody holds, in the order in which messages ended.
    pub async fn receive_feedback(&self, caller: &Caller) -> Result<Option<Given<Told>>, Error> {
        self.receive_notices(caller).await
    }

    pub async fn settle_feedback(
        &self,
        caller: &Caller,
        token: LockToken,
        settlement: Settlement,
    ) -> Result<(), Error> {
        self.settle_notices::<Told>(caller, token, settlement).await
    }
}
