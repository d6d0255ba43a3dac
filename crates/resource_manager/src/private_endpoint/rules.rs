//! How a PUT of a resource changes its private endpoint connections. Pure.

use base::caps;

use super::record::{LinkState, LinkStatus, PrivateEndpointConnection};
use crate::error::Error;
use crate::resource::SystemData;

/// One element of `privateEndpointConnections` in a PUT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionRequest {
    /// From `name` or the end of `id`.
    pub name: Option<String>,
    pub private_endpoint: Option<String>,
    pub group_ids: Option<Vec<String>>,
    pub state: Option<LinkState>,
}

/// The connections after a PUT: those that the body does not mention at all stay; a list that is given replaces the old one.
/// An element takes over the connection of its name; one without a name that of its place in the list, so that the same PUT
/// twice changes nothing.
pub(crate) fn put(
    old: &[PrivateEndpointConnection],
    requests: Option<&[ConnectionRequest]>,
    system_data: &SystemData,
) -> Result<Vec<PrivateEndpointConnection>, Error> {
    let Some(requests) = requests else { return Ok(old.to_vec()) };
    if requests.len() > caps::PRIVATE_ENDPOINT_CONNECTIONS_MAX {
        return Err(Error::bad_request(format!(
            "A resource has at most {} private endpoint connections.",
            caps::PRIVATE_ENDPOINT_CONNECTIONS_MAX
        )));
    }
    let mut next: Vec<PrivateEndpointConnection> = Vec::with_capacity(requests.len());
    for (at, request) in requests.iter().enumerate() {
        let before = match &request.name {
            Some(name) => old.iter().find(|known| known.name.eq_ignore_ascii_case(name)),
            None => old.get(at),
        };
        let name = before.map(|known| known.name.clone()).or_else(|| request.name.clone());
        let name = name.unwrap_or_else(|| format!("connection-{}", at + 1));
        if next.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
            return Err(Error::bad_request(format!(
                "The private endpoint connection '{name}' is given twice."
            )));
        }
        let known_data = before.map(|known| known.system_data.clone());
        let mut connection = PrivateEndpointConnection {
            name,
            private_endpoint: request
                .private_endpoint
                .clone()
                .or_else(|| before.and_then(|known| known.private_endpoint.clone())),
            group_ids: request
                .group_ids
                .clone()
                .or_else(|| before.map(|known| known.group_ids.clone()))
                .unwrap_or_default(),
            state: request
                .state
                .clone()
                .or_else(|| before.map(|known| known.state.clone()))
                .unwrap_or_else(pending),
            system_data: known_data.unwrap_or_else(|| system_data.clone()),
            is_being_deleted: false,
        };
        // Clients send an instance back whole; a connection that is in it as it was has not been written.
        if before.is_some_and(|known| *known != connection) {
            let created = connection.system_data;
            connection.system_data = SystemData {
                created_by: created.created_by,
                created_by_type: created.created_by_type,
                created_at: created.created_at,
                ..system_data.clone()
            };
        }
        next.push(connection);
    }
    Ok(next)
}

fn pending() -> LinkState {
    LinkState { status: LinkStatus::Pending, description: String::new(), actions_required: None }
}
