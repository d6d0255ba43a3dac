//! The stored shape of a private endpoint connection, inside of the properties of its resource.

use serde::{Deserialize, Serialize};

use crate::resource::SystemData;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateEndpointConnection {
    pub name: String,
    /// The resource id of the private endpoint in the caller's network.
    pub private_endpoint: Option<String>,
    pub group_ids: Vec<String>,
    pub state: LinkState,
    pub system_data: SystemData,
    /// Deletion was accepted and waits for the reconciler.
    pub is_being_deleted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    pub status: LinkStatus,
    pub description: String,
    pub actions_required: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkStatus {
    Pending,
    Approved,
    Rejected,
    Disconnected,
}

impl LinkStatus {
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Pending, Self::Approved, Self::Rejected, Self::Disconnected];
        all.into_iter().find(|status| status.name().eq_ignore_ascii_case(text))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Approved => "Approved",
            Self::Rejected => "Rejected",
            Self::Disconnected => "Disconnected",
        }
    }
}
