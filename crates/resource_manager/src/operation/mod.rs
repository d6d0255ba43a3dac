//! Long-running operations: what was accepted, what is still to do, how it ended.
//! Started together with the change of a resource, finished by the reconciler, read by clients that poll.

use std::time::Duration;

use access::Caller;
use base::Timestamp;

pub use self::record::{Kind, Operation, State, Target, Work};
use crate::ResourceManager;
use crate::error::Error;
use crate::id::GroupId;

mod record;

impl ResourceManager {
    /// The status of an operation in a subscription. Its id is unguessable and its content harmless, so that whoever sees
    /// the subscription at all may poll it.
    pub async fn operation(&self, caller: &Caller, subscription: &str, id: &str) -> Result<Operation, Error> {
        self.subscription(caller, subscription).await?;
        let stored = self.store.get::<Operation>(&Operation::key_of(id)).await?;
        stored
            .map(|stored| stored.record)
            .filter(|operation| operation.group().subscription.eq_ignore_ascii_case(subscription))
            .ok_or_else(|| Error::OperationNotFound(id.chars().take(64).collect()))
    }
}

impl Operation {
    /// A new operation on `target` that is due at `due`.
    pub(crate) fn begin(target: Target, work: Work, location: &str, now: Timestamp, due: Timestamp) -> Self {
        let id = uuid::Uuid::new_v4().to_string();
        Self { id, target, work, location: location.to_owned(), started: now, state: State::Running { due } }
    }

    pub fn group(&self) -> &GroupId {
        match &self.target {
            Target::Resource(id) => &id.group,
            Target::Group(group) => group,
        }
    }

    pub fn kind(&self) -> Kind {
        match self.work {
            Work::Create | Work::Update { .. } | Work::UpdateConnection { .. } => Kind::Create,
            Work::Delete | Work::DeleteConnection { .. } | Work::DeleteGroup => Kind::Delete,
        }
    }

    /// How long a running operation still waits. One that began later than now was stored before the clock was set back.
    pub(crate) fn waits(&self, now: Timestamp) -> Duration {
        match self.state {
            State::Running { due } if self.started <= now => due.since(now),
            _ => Duration::ZERO,
        }
    }

    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_waits_for_its_delay_and_not_for_a_clock_that_was_set_back() {
        let at = Timestamp::from_unix_seconds;
        let group = GroupId { subscription: "s".into(), name: "g".into() };
        let operation =
            Operation::begin(Target::Group(group), Work::DeleteGroup, "global", at(10_000), at(10_005));
        assert_eq!(operation.waits(at(10_000)), Duration::from_secs(5));
        assert_eq!(operation.waits(at(10_005)), Duration::ZERO);
        assert_eq!(operation.waits(at(2_800)), Duration::ZERO);
    }
}
