//! From whoever has something for a device to the node that holds its connection, and back. Everything that passes is plain data:
//! another process may be at either end. Operations send through `presence`; `mailbox` is what stands at the other end.

mod in_process;

use std::pin::Pin;
use std::sync::Arc;

use base::InstanceId;
use base::ids::IdentityId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::sessions::Node;

pub use self::in_process::InProcess;

pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One session, and no other of the same identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub node: Node,
    pub instance: InstanceId,
    pub identity: IdentityId,
    pub epoch: u64,
}

/// What can be sent to a connected device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Changed desired properties as JSON with `$version`, in whatever order the changes were committed.
    Desired { version: u64, patch: Bytes },
    /// Answered when the device has answered, or when its time is over. `payload` is JSON, or empty when the service gave none.
    Method { name: String, payload: Bytes, timeout_ms: u64 },
    /// Messages may wait in the device's queue. Taken by a connection that listens to them.
    CloudToDevice,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// There is no session of that epoch: who asked looks for the owner once more. Nothing was offered to the device.
    NotMine,
    /// The device does not take this kind of delivery. Nothing was offered to it.
    NotListening,
    Taken,
    /// What the device sent back to a direct method.
    Answered {
        status: i32,
        payload: Bytes,
    },
    /// The device listens to other methods only.
    Declined,
    /// The session ended before the device answered.
    Closed(CloseReason),
    TimedOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseReason {
    /// 400027: a newer connection of the same identity.
    TakenOver,
    DeviceDisabled,
    DeviceDeleted,
    HubRemoved,
    /// The connection does not take what is sent to it; the device comes back and reads its twin.
    QueueFull,
    /// Nobody finds the session any more, because the node lost its lease; the device comes back.
    NodeLost,
    /// The door itself has let the session go.
    Ended,
}

/// The node could not be asked, and nothing of what was sent has arrived there. A bus that cannot know that waits until the
/// delivery's own time is over and says `TimedOut`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node that holds the connection could not be reached")]
pub struct Unreachable;

/// The way between the nodes. Every answer comes within a bounded time.
pub trait Bus: Send + Sync + 'static {
    fn deliver(&self, to: Address, delivery: Delivery) -> Answering<'_, Result<Reply, Unreachable>>;

    /// Confirmed when it returns: nothing is delivered to the session any more, what it was storing for its successor has landed or
    /// never will, and whatever else is to begin under that epoch or an older one will find itself closed. What the device had sent
    /// before it hears of this may still be taken.
    fn close(&self, session: Address, reason: CloseReason) -> Answering<'_, Result<(), Unreachable>>;

    /// From now on what is addressed to a node and an instance arrives there.
    fn attach(&self, node: u32, instance: &InstanceId, recipient: Arc<dyn Recipient>);

    fn detach(&self, node: u32, instance: &InstanceId);
}

/// Where a node takes what is addressed to one of its instances.
pub trait Recipient: Send + Sync {
    fn take(&self, to: Address, delivery: Delivery) -> Answering<'_, Reply>;

    fn close(&self, session: Address, reason: CloseReason) -> Answering<'_, ()>;
}
