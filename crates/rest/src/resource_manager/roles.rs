//! `Microsoft.Authorization` as Resource Manager shows it: role definitions and role assignments at every scope
//! (`arm-and-auth.md` §6).

use access::directory::RoleAssignment;
use access::roles::RoleDefinition;
use resource_manager::Error;
use resource_manager::role::{AssignmentFilter, AssignmentRequest, DefinitionFilter, RoleScope};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Refusal;
use super::{At, Outcome, parse};
use crate::wire::{Request, Response};

/// Azure shows when a role of its own was made; ours came with the server.
const BUILT_IN_SINCE: &str = "2015-02-02T21:55:09.8806423Z";

#[derive(Debug, Deserialize)]
struct AssignmentBody {
    properties: AssignmentProperties,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssignmentProperties {
    role_definition_id: String,
    principal_id: String,
    principal_type: Option<String>,
    description: Option<String>,
    condition: Option<String>,
    delegated_managed_identity_resource_id: Option<String>,
}

impl AssignmentProperties {
    /// A condition narrows what a role gives. None can be judged here, and leaving one out would give more than was asked for.
    fn read(self) -> Result<AssignmentRequest, Refusal> {
        let is_said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if is_said(&self.condition) || is_said(&self.delegated_managed_identity_resource_id) {
            let message =
                "Conditions and delegated managed identities of role assignments are not supported.";
            return Err(Error::BadRequest(message.into()).into());
        }
        Ok(AssignmentRequest {
            role_definition_id: self.role_definition_id,
            principal_id: self.principal_id,
            principal_type: self.principal_type,
            description: self.description,
        })
    }
}

/// The scope that the path begins with.
fn scope(request: &Request) -> Result<RoleScope, Error> {
    let segments: Vec<&str> =
        request.param("scope").split('/').filter(|segment| !segment.is_empty()).collect();
    RoleScope::parse(&segments)
}

pub(super) async fn list_definitions(at: At, request: &Request) -> Outcome {
    let (scope, filter) = (scope(request)?, request.query("$filter").unwrap_or_default());
    let found = at.manager.role_definitions(&at.caller, &scope, &DefinitionFilter::parse(filter)?).await?;
    let bodies: Vec<Value> = found.iter().map(|role| definition(&scope, role)).collect();
    Ok(Response::json(200, &json!({"value": bodies})))
}

pub(super) async fn get_definition(at: At, request: &Request) -> Outcome {
    let scope = scope(request)?;
    let role = at.manager.role_definition(&at.caller, &scope, request.param("definition")).await?;
    Ok(Response::json(200, &definition(&scope, role)))
}

pub(super) async fn list(at: At, request: &Request) -> Outcome {
    let (scope, filter) = (scope(request)?, request.query("$filter").unwrap_or_default());
    let found = at.manager.role_assignments(&at.caller, &scope, &AssignmentFilter::parse(filter)?).await?;
    let bodies: Vec<Value> = found.iter().map(body).collect();
    Ok(Response::json(200, &json!({"value": bodies})))
}

pub(super) async fn get(at: At, request: &Request) -> Outcome {
    let found = at.manager.role_assignment(&at.caller, &scope(request)?, request.param("assignment")).await?;
    Ok(Response::json(200, &body(&found)))
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: AssignmentBody = parse::body(request)?;
    let (scope, id, wanted) = (scope(request)?, request.param("assignment"), sent.properties.read()?);
    let put = at.manager.put_role_assignment(&at.caller, &scope, id, &wanted).await?;
    Ok(Response::json(if put.is_new { 201 } else { 200 }, &body(&put.assignment)))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let id = request.param("assignment");
    Ok(match at.manager.delete_role_assignment(&at.caller, &scope(request)?, id).await? {
        Some(removed) => Response::json(200, &body(&removed)),
        None => Response::empty(204),
    })
}

/// Where a definition is found: in the subscription, or in the tenant when no subscription is asked.
fn definition_id(subscription: Option<&str>, id: &str) -> String {
    let of_subscription =
        |subscription: &str| format!("/subscriptions/{}", subscription.to_ascii_lowercase());
    let prefix = subscription.map(of_subscription).unwrap_or_default();
    format!("{prefix}/providers/Microsoft.Authorization/roleDefinitions/{id}")
}

fn definition(scope: &RoleScope, role: &RoleDefinition) -> Value {
    json!({
        "id": definition_id(scope.subscription(), role.id),
        "name": role.id,
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {
            "roleName": role.role_name,
            "type": "BuiltInRole",
            "description": role.description,
            "assignableScopes": ["/"],
            "permissions": [{
                "actions": role.actions,
                "notActions": role.not_actions,
                "dataActions": role.data_actions,
                "notDataActions": []
            }],
            "createdOn": BUILT_IN_SINCE,
            "updatedOn": BUILT_IN_SINCE,
            "createdBy": null,
            "updatedBy": null
        }
    })
}

fn body(assignment: &RoleAssignment) -> Value {
    let path = &assignment.scope_path;
    let subscription = path.trim_start_matches('/').split('/').nth(1);
    json!({
        "id": format!("{path}/providers/Microsoft.Authorization/roleAssignments/{}", assignment.id),
        "name": assignment.id,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            "roleDefinitionId": definition_id(subscription, &assignment.role_definition_id),
            "principalId": assignment.principal_id,
            "principalType": assignment.principal_type,
            "scope": if path.is_empty() { "/" } else { path },
            "condition": null,
            "conditionVersion": null,
            "createdOn": assignment.created_on.iso_trimmed(),
            "updatedOn": assignment.updated_on.iso_trimmed(),
            "createdBy": assignment.created_by,
            "updatedBy": assignment.updated_by,
            "delegatedManagedIdentityResourceId": null,
            "description": assignment.description
        }
    })
}
