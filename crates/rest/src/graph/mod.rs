//! Microsoft Graph, as far as those who assign roles look principals up (`arm-and-auth.md` §6): `az role assignment`, Terraform.
//! It reads; the directory knows no users and no groups yet. A custom cloud's Graph is the server's own address.

use access::directory::ServicePrincipal;
use access::{Caller, Directory, audiences};
use base::{Clock, Continuation, Page, caps};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::json::{self, Reading};
use crate::router::{Door, Fault, RouteInfo, Routes};
use crate::wire::{Head, Request, Response};

mod error;
mod filter;
#[cfg(test)]
mod tests;

use error::{GraphError, read};
use filter::Filter;

#[derive(Clone)]
pub struct Graph {
    pub directory: Directory,
    pub clock: Clock,
}

type Outcome = Result<Response, GraphError>;

/// Adds a route whose handler answers with an outcome; refusals are written here, once.
macro_rules! route {
    ($routes:expr, $method:literal, $template:literal, $operation:literal, $handler:path) => {
        $routes.on($method, $template, $operation, |door: Graph, _: Caller, request: Request| async move {
            let outcome = $handler(&door, &request).await;
            outcome.unwrap_or_else(|error| error.answer(&request.head, door.clock.now()))
        })
    };
}

impl Door for Graph {
    type Context = Caller;
    const NAME: &'static str = "graph";

    #[rustfmt::skip]
    fn routes() -> Routes<Self> {
        let r = Routes::new();
        let r = route!(r, "GET", "/v1.0/servicePrincipals", "ServicePrincipals_List", list_service_principals);
        let r = route!(r, "GET", "/v1.0/servicePrincipals/{id}", "ServicePrincipals_Get", get_service_principal);
        let r = route!(r, "GET", "/v1.0/users", "Users_List", list_users);
        route!(r, "POST", "/v1.0/directoryObjects/getByIds", "DirectoryObjects_GetByIds", get_by_ids)
    }

    async fn authenticate(&self, head: &Head, _: &RouteInfo) -> Result<Caller, Response> {
        let entered = match head.bearer() {
            None => Err(GraphError::NoToken),
            Some(token) => {
                let caller = self.directory.authenticate_bearer(token, audiences::GRAPH).await;
                caller.map_err(GraphError::Token)
            }
        };
        entered.map_err(|error| error.answer(head, self.clock.now()))
    }

    fn refuse(&self, head: &Head, fault: Fault) -> Response {
        let error = match fault {
            Fault::UnknownInstance | Fault::UnknownPath => GraphError::UnknownPath,
            Fault::MethodNotAllowed => GraphError::MethodNotAllowed,
            Fault::Malformed(malformed) => GraphError::Malformed(malformed),
            Fault::NotBuilt { operation } => GraphError::NotBuilt(operation),
            Fault::BodyTooLarge { max_bytes } => GraphError::BodyTooLarge { max_bytes },
            Fault::BodyIncomplete => {
                GraphError::Body("The request body ended before it was complete.".into())
            }
        };
        error.answer(head, self.clock.now())
    }

    fn finish(&self, head: &Head, response: Response) -> Response {
        let response = response.header("request-id", &head.request_id.to_string());
        response.header("cache-control", "no-cache").header("odata-version", "4.0")
    }
}

async fn list_service_principals(door: &Graph, request: &Request) -> Outcome {
    let filter = Filter::parse(request.query("$filter").unwrap_or_default())?;
    let directory = &door.directory;
    let page = match filter {
        Filter::All => {
            let after = request.query("$skiptoken").map(Continuation::from_client);
            read(directory.service_principals(after.as_ref()).await)?
        }
        Filter::Id(id) => whole(read(directory.service_principal(&id).await)?),
        Filter::Name(app_id) => whole(read(directory.service_principal_by_app_id(&app_id).await)?),
        Filter::DisplayName(name) => whole(read(directory.service_principals_named(&name).await)?),
    };
    let base = request.base_url();
    let items: Vec<Value> =
        page.items.iter().map(|one| service_principal(one, directory.tenant_id())).collect();
    let mut body = json!({
        "@odata.context": format!("{base}/v1.0/$metadata#servicePrincipals"),
        "value": items
    });
    if let Some(next) = page.next {
        let token = utf8_percent_encode(next.as_str(), NON_ALPHANUMERIC);
        body["@odata.nextLink"] = format!("{base}/v1.0/servicePrincipals?$skiptoken={token}").into();
    }
    Ok(Response::json(200, &body))
}

fn whole(found: impl IntoIterator<Item = ServicePrincipal>) -> Page<ServicePrincipal> {
    Page { items: found.into_iter().collect(), next: None }
}

async fn get_service_principal(door: &Graph, request: &Request) -> Outcome {
    let id = request.param("id");
    let found = read(door.directory.service_principal(id).await)?;
    let found = found.ok_or_else(|| GraphError::NotFound(id.chars().take(128).collect()))?;
    let mut body = service_principal(&found, door.directory.tenant_id());
    body["@odata.context"] =
        format!("{}/v1.0/$metadata#servicePrincipals/$entity", request.base_url()).into();
    Ok(Response::json(200, &body))
}

async fn list_users(_: &Graph, request: &Request) -> Outcome {
    let context = format!("{}/v1.0/$metadata#users", request.base_url());
    Ok(Response::json(200, &json!({"@odata.context": context, "value": []})))
}

#[derive(Debug, Deserialize)]
struct GetByIdsBody {
    ids: Vec<String>,
    /// None at all means all of them.
    #[serde(default)]
    types: Vec<String>,
}

async fn get_by_ids(door: &Graph, request: &Request) -> Outcome {
    let sent: GetByIdsBody =
        json::read(&request.body, Reading::AsPublished).map_err(|why| GraphError::Body(why.to_string()))?;
    if sent.ids.len() > caps::DIRECTORY_OBJECT_IDS_MAX {
        let max = caps::DIRECTORY_OBJECT_IDS_MAX;
        return Err(GraphError::Body(format!("The number of ids cannot exceed {max}.")));
    }
    let is_wanted = |kind: &String| {
        ["servicePrincipal", "directoryObject"].iter().any(|known| kind.eq_ignore_ascii_case(known))
    };
    let mut found = Vec::new();
    if sent.types.is_empty() || sent.types.iter().any(is_wanted) {
        for id in &sent.ids {
            if let Some(one) = read(door.directory.service_principal(id).await)? {
                let mut body = service_principal(&one, door.directory.tenant_id());
                body["@odata.type"] = "#microsoft.graph.servicePrincipal".into();
                found.push(body);
            }
        }
    }
    let context = format!("{}/v1.0/$metadata#directoryObjects", request.base_url());
    Ok(Response::json(200, &json!({"@odata.context": context, "value": found})))
}

fn service_principal(one: &ServicePrincipal, tenant_id: &str) -> Value {
    let is_application = one.resource.is_none();
    json!({
        "id": one.object_id,
        "appId": one.app_id,
        "displayName": one.display_name,
        "appDisplayName": is_application.then_some(&one.display_name),
        "appOwnerOrganizationId": is_application.then_some(tenant_id),
        "accountEnabled": true,
        "alternativeNames": one.resource.iter().collect::<Vec<_>>(),
        "createdDateTime": one.created_at.iso_seconds(),
        "servicePrincipalNames": [one.app_id],
        "servicePrincipalType": if is_application { "Application" } else { "ManagedIdentity" },
        "tags": []
    })
}
