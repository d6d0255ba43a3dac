//! What the tests of every door share: a request that comes in without a socket, and callers that Entra vouches for.

use ::access::directory::{ClientCredentials, Error, NewRoleAssignment, ServicePrincipal};
use ::access::{Caller, Directory};
use bytes::Bytes;
use http::request::Builder;

use crate::front::AnyDoor;
use crate::router::Fault;
use crate::wire::{Head, Peer, Response};

/// The answer of `door` to a request with `body`, of which it is given no more than it asks for.
pub(crate) async fn answer(
    door: &dyn AnyDoor,
    request: Builder,
    body: impl Into<Bytes>,
    peer: Peer,
) -> Response {
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let head = Head::new(&parts, peer).unwrap();
    let body = body.into();
    let read = move |max_bytes: usize| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
        let fits = body.len() <= max_bytes;
        Box::pin(std::future::ready(if fits { Ok(body) } else { Err(Fault::BodyTooLarge { max_bytes }) }))
    };
    door.serve(head, Box::new(read)).await
}

/// Gives `principal` a role; one that it has already is fine.
pub(crate) async fn grant(directory: &Directory, principal: &ServicePrincipal, role: &str, scope: &str) {
    let assignment = NewRoleAssignment {
        id: uuid::Uuid::new_v4().to_string(),
        scope_path: scope.to_owned(),
        role_definition_id: role.to_owned(),
        principal_id: principal.object_id.clone(),
        principal_type: None,
        description: None,
    };
    match directory.put_role_assignment(&Caller::system(), assignment).await {
        Ok(_) | Err(Error::RoleAssignmentExists { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// A token of `principal` for `resource`, by its client secret.
pub(crate) async fn token(directory: &Directory, principal: &ServicePrincipal, resource: &str) -> String {
    let credentials = ClientCredentials {
        client_id: &principal.app_id,
        client_secret: principal.secrets[0].secret.expose(),
        resource,
        base_url: "https://login.localhost",
    };
    directory.issue(&credentials).await.unwrap().access_token
}
