//! What the tests of every door share: a request that comes in without a socket, and callers that Entra vouches for.

use std::marker::PhantomData;

use ::access::directory::{ClientCredentials, NewRoleAssignment, RoleError, ServicePrincipal};
use ::access::{Caller, Directory};
use bytes::Bytes;
use http::request::Builder;
use serde_json::Value;

use crate::body::AtHand;
use crate::front::AnyDoor;
use crate::wire::{Head, Response};
use entrance::Peer;

/// The answer of `door` to a request with `body`, of which it is given no more than it asks for.
pub(crate) async fn answer(
    door: &dyn AnyDoor,
    request: Builder,
    body: impl Into<Bytes>,
    peer: Peer,
) -> Response {
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let head = Head::new(&parts, peer);
    door.serve(head, Box::new(AtHand::new(body))).await
}

/// A request in the making. What comes of it is told as `A`, in which a door's tests say what its answers have in common.
pub(crate) struct Ask<'a, A> {
    door: &'a dyn AnyDoor,
    method: String,
    path: String,
    authorization: Option<String>,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    host: String,
    peer: Peer,
    told_as: PhantomData<A>,
}

/// What was asked, as `METHOD path`, and the answer.
pub(crate) struct Told {
    pub(crate) what: String,
    pub(crate) response: Response,
}

impl<'a, A: From<Told>> Ask<'a, A> {
    pub(crate) fn new(door: &'a dyn AnyDoor, method: &str, path: String, host: &str) -> Self {
        Self {
            door,
            method: method.to_owned(),
            path,
            authorization: None,
            headers: vec![],
            body: Bytes::new(),
            host: host.to_owned(),
            peer: Peer::default(),
            told_as: PhantomData,
        }
    }

    pub(crate) fn with(self, authorization: &str) -> Self {
        self.authorization(Some(authorization))
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.with(&format!("Bearer {token}"))
    }

    pub(crate) fn authorization(mut self, value: Option<&str>) -> Self {
        self.authorization = value.map(str::to_owned);
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub(crate) fn peer(mut self, peer: Peer) -> Self {
        self.peer = peer;
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.bytes(body.to_string()).header("content-type", "application/json; charset=utf-8")
    }

    pub(crate) fn bytes(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) async fn send(self) -> A {
        let mut request =
            http::Request::builder().method(self.method.as_str()).uri(&self.path).header("host", self.host);
        if let Some(authorization) = self.authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in self.headers {
            request = request.header(name, value.as_bytes());
        }
        let response = answer(self.door, request, self.body, self.peer).await;
        A::from(Told { what: format!("{} {}", self.method, self.path), response })
    }
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
        Ok(_) | Err(RoleError::RoleAssignmentExists { .. }) => {}
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
        from: None,
    };
    directory.issue(&credentials).await.unwrap().access_token.expose().to_owned()
}

/// A self-signed certificate of `name` in PEM.
pub(crate) fn certificate(name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    parameters.self_signed(&key).unwrap().pem()
}
