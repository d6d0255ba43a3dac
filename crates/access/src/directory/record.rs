//! What the directory stores. One tenant; everything else hangs below it.

use base::{Scope, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Key, Record, Table, table};

use crate::signing_key::SigningKeyRecord;

/// The first key column of every record of the directory, which belongs to no instance.
pub(super) const REALM: &str = "directory";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TenantRecord {
    pub tenant_id: String,
    /// The subscription that a first start makes. Chosen with the tenant, so that a start that was cut short repeats itself.
    pub subscription_id: String,
    pub display_name: String,
    pub created_at: Timestamp,
    /// Of an embedded engine; a database keeps it with the server's other secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SigningKeyRecord>,
}

/// The identity in the tenant of an application, or of a resource that has one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServicePrincipal {
    /// What role assignments name.
    pub object_id: String,
    /// What clients log in with (`client_id`).
    pub app_id: String,
    pub display_name: String,
    pub secrets: Vec<ClientSecret>,
    pub created_at: Timestamp,
    /// The path of the resource whose managed identity this is. An application is nobody's.
    #[serde(default)]
    pub resource: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientSecret {
    pub key_id: String,
    pub secret: Secret,
    pub expires_at: Option<Timestamp>,
}

/// Who holds which role where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleAssignment {
    /// The GUID that names it.
    pub id: String,
    pub scope: Scope,
    /// The scope as its creator spelled it.
    pub scope_path: String,
    pub role_definition_id: String,
    pub principal_id: String,
    pub principal_type: String,
    pub description: Option<String>,
    pub created_on: Timestamp,
    pub updated_on: Timestamp,
    pub created_by: String,
    pub updated_by: String,
}

/// A GUID that names an assignment, wherever that is: the tenant knows no second one of the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AssignmentName {
    pub id: String,
}

impl AssignmentName {
    pub(super) fn key_of(id: &str) -> Key {
        Key::new([REALM, id])
    }
}

impl Record for AssignmentName {
    const TABLE: Table = table::ROLE_ASSIGNMENT_NAME;

    fn key(&self) -> Key {
        Self::key_of(&self.id)
    }
}

impl TenantRecord {
    pub(super) fn key() -> Key {
        Key::new([REALM])
    }
}

impl ServicePrincipal {
    pub(super) fn key_of(object_id: &str) -> Key {
        Key::new([REALM, object_id])
    }
}

impl RoleAssignment {
    /// A principal's assignments lie together, and the key itself forbids a second one of the same role at the same scope.
    pub(super) fn key_of(principal_id: &str, scope: &Scope, role_definition_id: &str) -> Key {
        Key::new([REALM, principal_id, scope.as_str(), role_definition_id])
    }

    pub(super) fn of_principal(principal_id: &str) -> Key {
        Key::new([REALM, principal_id])
    }
}

impl Record for TenantRecord {
    const TABLE: Table = table::TENANT;

    fn key(&self) -> Key {
        Self::key()
    }
}

impl Record for ServicePrincipal {
    const TABLE: Table = table::SERVICE_PRINCIPAL;
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Self::key_of(&self.object_id)
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![Some(self.app_id.clone()), Some(self.display_name.clone())]
    }
}

impl Record for RoleAssignment {
    const TABLE: Table = table::ROLE_ASSIGNMENT;
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Self::key_of(&self.principal_id, &self.scope, &self.role_definition_id)
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![Some(self.id.clone())]
    }
}
