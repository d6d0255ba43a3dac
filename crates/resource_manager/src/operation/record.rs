//! The stored shape of a long-running operation.

use base::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Key, Record, Table};

use crate::id::{GroupId, ResourceId};
use crate::private_endpoint::LinkState;
use crate::resource::{Resource, Tags};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Operation {
    pub id: String,
    pub target: Target,
    pub work: Work,
    pub location: String,
    pub started: Timestamp,
    pub state: State,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Target {
    Resource(ResourceId),
    Group(GroupId),
}

/// What is left to do once the request is answered. Everything in it may be done twice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Work {
    Create,
    /// `tags`: those of a PUT, which show only when it is done. `previous` comes back if it fails.
    Update {
        tags: Option<Option<Tags>>,
        previous: Box<Resource>,
    },
    Delete,
    UpdateConnection {
        name: String,
        state: LinkState,
    },
    DeleteConnection {
        name: String,
    },
    DeleteGroup,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Running { due: Timestamp },
    Succeeded { ended: Timestamp },
    Failed { ended: Timestamp, code: String, message: String },
}

/// What clients are told an operation is. Updates are creations to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Create,
    Delete,
}

impl Operation {
    pub(crate) const REALM: &'static str = "operations";

    pub(crate) fn key_of(id: &str) -> Key {
        Key::new([Self::REALM, &id.to_ascii_lowercase()])
    }
}

impl Record for Operation {
    const TABLE: Table = store::table::OPERATION;
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Self::key_of(&self.id)
    }

    fn columns(&self) -> Vec<Option<String>> {
        let state = if self.is_running() { "running" } else { "ended" };
        vec![Some(state.to_owned())]
    }
}
