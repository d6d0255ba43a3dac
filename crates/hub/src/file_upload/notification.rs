//! What back ends are told of a file that a device has uploaded (`iothub-service.md` §7.5): one of the queues of `service_bound`.

use access::{Caller, Permission};
use base::{DeviceId, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Table, table};

use crate::due::Work;
use crate::error::Error;
use crate::hub::Hub;
use crate::lock::{LockToken, Settlement};
use crate::service_bound::{Given, Notice};
use crate::settings::{HubSettings, ServiceBoundQueue};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileNotification {
    pub device_id: DeviceId,
    pub blob_uri: String,
    pub blob_name: String,
    pub last_updated: Timestamp,
    pub size_bytes: u64,
    pub enqueued: Timestamp,
}

impl Notice for FileNotification {
    const NAME: &'static str = "file_notifications";
    const WAITING: Table = table::FILE_NOTIFICATION;
    const GIVEN: Table = table::FILE_NOTIFICATION_GIVEN;
    const TOGETHER: usize = 1;
    const EXPIRY: Work = Work::FileNotifications;
    const PERMISSION: Permission = Permission::FileNotification;

    fn queue(settings: &HubSettings) -> ServiceBoundQueue {
        settings.file_upload.notifications
    }

    fn enqueued(&self) -> Timestamp {
        self.enqueued
    }

    fn device_id(&self) -> &DeviceId {
        &self.device_id
    }
}

impl Hub {
    /// The next one that nobody holds.
    pub async fn receive_file_notification(
        &self,
        caller: &Caller,
    ) -> Result<Option<Given<FileNotification>>, Error> {
        self.receive_notices(caller).await
    }

    pub async fn settle_file_notification(
        &self,
        caller: &Caller,
        token: LockToken,
        settlement: Settlement,
    ) -> Result<(), Error> {
        self.settle_notices::<FileNotification>(caller, token, settlement).await
    }
}
