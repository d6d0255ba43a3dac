//! The directory: one tenant with its service principals, role assignments and token issuer.
//! The Entra door asks it for tokens, every door for the caller behind one, Resource Manager for role assignments.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Scope, Timestamp, caps};
use parking_lot::Mutex;
use store::{Batch, CommitError, Find, Key, Scan, Store, StoreError, Stored};

use crate::caller::{Caller, Denied};
use crate::permission::Permission;
use crate::roles;
use crate::signing_key::{NotSigned, PublicSigningKey, SigningKey, SigningKeyError, SigningKeyRecord};
use crate::token::{self, Claims, TokenError};

mod record;
mod rules;
#[cfg(test)]
mod tests;

use record::TenantRecord;
pub use record::{ClientSecret, RoleAssignment, ServicePrincipal};
pub use rules::{ClientCredentials, GrantError};

/// What can go wrong with the directory itself, in the words of `Microsoft.Authorization`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("The role assignment already exists. The ID of the existing role assignment is {}.", id.replace('-', ""))]
    RoleAssignmentExists { id: String },
    #[error("Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")]
    RoleAssignmentUpdateNotPermitted,
    #[error("The specified role definition with ID '{id}' does not exist.")]
    RoleDefinitionDoesNotExist { id: String },
    #[error("Principal {principal_id} does not exist in the directory {tenant_id}.")]
    PrincipalNotFound { principal_id: String, tenant_id: String },
    #[error("The role assignment '{id}' is not found.")]
    RoleAssignmentNotFound { id: String },
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A token and how long it lives.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    pub access_token: String,
    pub expires_in: u64,
    pub not_before: Timestamp,
    pub expires_on: Timestamp,
}

/// What Resource Manager's PUT asks for.
#[derive(Clone, Debug)]
pub struct NewRoleAssignment {
    pub id: String,
    /// Any resource path, as the caller spelled it.
    pub scope_path: String,
    /// A GUID or a role definition's resource id.
    pub role_definition_id: String,
    pub principal_id: String,
    pub principal_type: Option<String>,
    pub description: Option<String>,
}

/// One tenant. Clones share it.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    domain: String,
    own_hosts: Vec<String>,
    tenant_id: String,
    subscription_id: String,
    display_name: String,
    signing_key: SigningKey,
    /// Callers with their grants, kept for `caps::GRANTS_CACHED_SECONDS`; dropped at every change of an assignment.
    callers: Mutex<HashMap<String, (Timestamp, Caller)>>,
}

impl Directory {
    /// Opens the tenant of `store`, making it when there is none. `own_hosts` are names and addresses beside the domain under
    /// which clients reach this server and may ask for tokens of it.
    pub async fn open(
        store: Store,
        clock: Clock,
        domain: &str,
        own_hosts: Vec<String>,
    ) -> Result<Self, Error> {
        let tenant = match store.get::<TenantRecord>(&TenantRecord::key()).await? {
            Some(stored) => stored.record,
            None => create_tenant(&store, clock.now()).await?,
        };
        let signing_key = SigningKey::load(&tenant.signing_key)?;
        Ok(Self(Arc::new(Inner {
            store,
            clock,
            domain: domain.to_ascii_lowercase(),
            own_hosts,
            tenant_id: tenant.tenant_id,
            subscription_id: tenant.subscription_id,
            display_name: tenant.display_name,
            signing_key,
            callers: Mutex::default(),
        })))
    }

    pub fn tenant_id(&self) -> &str {
        &self.0.tenant_id
    }

    /// The id of the subscription that a first start makes.
    pub fn subscription_id(&self) -> &str {
        &self.0.subscription_id
    }

    pub fn tenant_display_name(&self) -> &str {
        &self.0.display_name
    }

    pub fn domain(&self) -> &str {
        &self.0.domain
    }

    pub fn signing_key(&self) -> &PublicSigningKey {
        self.0.signing_key.public()
    }

    /// Whether `tenant` in a login address means this tenant.
    pub fn is_tenant(&self, tenant: &str) -> bool {
        let words = ["common", "organizations", "consumers", "adfs", &self.0.domain, &self.0.tenant_id];
        words.iter().any(|word| word.eq_ignore_ascii_case(tenant))
    }

    /// Makes an application with one client secret.
    pub async fn create_service_principal(&self, display_name: &str) -> Result<ServicePrincipal, Error> {
        let secret = ClientSecret { key_id: new_id(), secret: rules::new_secret(), expires_at: None };
        let principal = ServicePrincipal {
            object_id: new_id(),
            app_id: new_id(),
            display_name: display_name.to_owned(),
            secrets: vec![secret],
            created_at: self.0.clock.now(),
        };
        let mut batch = Batch::default();
        batch.insert(&principal);
        self.0.store.commit(batch).await.map_err(unexpected)?;
        Ok(principal)
    }

    /// The first application of this name, made when there is none.
    pub async fn ensure_service_principal(&self, display_name: &str) -> Result<ServicePrincipal, Error> {
        let named = self.service_principals().await?.into_iter().find(|one| one.display_name == display_name);
        match named {
            Some(principal) => Ok(principal),
            None => self.create_service_principal(display_name).await,
        }
    }

    pub async fn service_principal(&self, object_id: &str) -> Result<Option<ServicePrincipal>, StoreError> {
        let key = ServicePrincipal::key_of(&object_id.to_ascii_lowercase());
        Ok(self.0.store.get::<ServicePrincipal>(&key).await?.map(|stored| stored.record))
    }

    pub async fn service_principal_by_app_id(
        &self,
        app_id: &str,
    ) -> Result<Option<ServicePrincipal>, StoreError> {
        Ok(self.find_one(record::REALM, "app_id", &app_id.to_ascii_lowercase()).await?.map(|s| s.record))
    }

    pub async fn service_principals(&self) -> Result<Vec<ServicePrincipal>, StoreError> {
        let scan = Scan { prefix: Key::new([record::REALM]), after: None, limit: caps::RESOURCE_PAGE };
        Ok(self.0.store.scan::<ServicePrincipal>(scan).await?.into_iter().map(|s| s.record).collect())
    }

    async fn find_one<R: store::Record>(
        &self,
        prefix: &str,
        column: &'static str,
        value: &str,
    ) -> Result<Option<Stored<R>>, StoreError> {
        let find =
            Find { prefix: Key::new([prefix]), column, value: value.to_owned(), after: None, limit: 1 };
        Ok(self.0.store.find::<R>(find).await?.pop())
    }

    /// A token for an application that proves itself by its secret (`client_credentials`).
    pub async fn issue(&self, request: &ClientCredentials<'_>) -> Result<IssuedToken, GrantError> {
        let client_id = request.client_id.to_owned();
        let principal = self.service_principal_by_app_id(&client_id).await?;
        let principal = principal.ok_or(GrantError::UnknownApplication { client_id })?;
        let now = self.0.clock.now();
        rules::check_secret(&principal, request.client_secret, now)?;
        let application = self.application_of(request.resource).await?;
        let is_own_application = application.is_some();
        if !(is_own_application || self.is_own(request.resource) || token::is_azure(request.resource)) {
            return Err(GrantError::UnknownResource { resource: request.resource.to_owned() });
        }
        let version = rules::version_for(request.resource, is_own_application);
        let claims = rules::claims(&principal, request, &self.0.tenant_id, version, now);
        Ok(IssuedToken {
            access_token: self.0.signing_key.sign(&claims),
            expires_in: caps::ACCESS_TOKEN_SECONDS,
            not_before: now,
            expires_on: now.plus(Duration::from_secs(caps::ACCESS_TOKEN_SECONDS)),
        })
    }

    /// The answer to an application that would prove itself by a signed assertion (`client_assertion`): no application has a
    /// certificate or a federated credential yet, so none is ever accepted.
    pub async fn refuse_assertion(&self, client_id: &str, assertion: &str) -> GrantError {
        match self.service_principal_by_app_id(client_id).await {
            Ok(Some(_)) if rules::is_compact_jws(assertion) => {
                GrantError::UnregisteredCertificate { client_id: client_id.to_owned() }
            }
            Ok(Some(_)) => GrantError::MalformedAssertion,
            Ok(None) => GrantError::UnknownApplication { client_id: client_id.to_owned() },
            Err(error) => error.into(),
        }
    }

    async fn application_of(&self, resource: &str) -> Result<Option<ServicePrincipal>, StoreError> {
        let app_id = resource.strip_prefix("api://").unwrap_or(resource);
        self.service_principal_by_app_id(app_id).await
    }

    fn is_own(&self, audience: &str) -> bool {
        token::is_own(audience, &self.0.domain, &self.0.own_hosts)
    }

    /// The caller behind a bearer token that is meant for one of `audiences` (see [`crate::audiences`]).
    pub async fn authenticate_bearer(&self, token: &str, audiences: &[&str]) -> Result<Caller, TokenError> {
        if token.len() > caps::BEARER_TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let claims: Claims = self.0.signing_key.verify(token).map_err(|error| match error {
            NotSigned::Malformed => TokenError::Malformed,
            NotSigned::UnknownKey | NotSigned::BadSignature => TokenError::Signature,
        })?;
        token::check(&claims, &self.0.tenant_id, self.0.clock.now())?;
        if !self.is_meant_for(&claims.aud, audiences) {
            return Err(TokenError::Audience { audience: claims.aud });
        }
        self.caller(&claims.oid).await
    }

    /// An address of this server is Resource Manager's audience, as in every custom cloud.
    fn is_meant_for(&self, audience: &str, audiences: &[&str]) -> bool {
        let normal = token::normal(audience);
        let resource_manager = token::audiences::RESOURCE_MANAGER[0];
        audiences.iter().any(|wanted| token::normal(wanted) == normal)
            || (audiences.contains(&resource_manager) && self.is_own(audience))
    }

    /// A principal with everything that its role assignments give.
    pub async fn caller(&self, object_id: &str) -> Result<Caller, TokenError> {
        let now = self.0.clock.now();
        if let Some((_, caller)) = self.0.callers.lock().get(object_id).filter(|(until, _)| *until > now) {
            return Ok(caller.clone());
        }
        let principal = self.service_principal(object_id).await?;
        let principal =
            principal.ok_or_else(|| TokenError::UnknownPrincipal { object_id: object_id.to_owned() })?;
        let assignments = self.assignments_of(object_id).await?;
        let grants = assignments.iter().filter_map(rules::grant).collect();
        let caller = Caller::principal(object_id, &principal.app_id, true, grants);
        let until = now.plus(Duration::from_secs(caps::GRANTS_CACHED_SECONDS));
        self.0.callers.lock().insert(object_id.to_owned(), (until, caller.clone()));
        Ok(caller)
    }

    async fn assignments_of(&self, principal_id: &str) -> Result<Vec<RoleAssignment>, StoreError> {
        self.scan_assignments(RoleAssignment::of_principal(principal_id)).await
    }

    async fn scan_assignments(&self, prefix: Key) -> Result<Vec<RoleAssignment>, StoreError> {
        let scan = Scan { prefix, after: None, limit: caps::ROLE_ASSIGNMENTS_MAX };
        Ok(self.0.store.scan::<RoleAssignment>(scan).await?.into_iter().map(|s| s.record).collect())
    }

    /// `RoleAssignments_Create`: creates, or answers the same one again.
    pub async fn put_role_assignment(
        &self,
        caller: &Caller,
        new: NewRoleAssignment,
    ) -> Result<RoleAssignment, Error> {
        let scope = Scope::new(&new.scope_path);
        caller.require(Permission::Management("Microsoft.Authorization/roleAssignments/write"), &scope)?;
        let role = rules::role_id(&new.role_definition_id);
        if roles::find(&role).is_none() {
            return Err(Error::RoleDefinitionDoesNotExist { id: role.replace('-', "") });
        }
        let principal_id = new.principal_id.to_ascii_lowercase();
        if self.service_principal(&principal_id).await?.is_none() {
            let tenant_id = self.0.tenant_id.clone();
            return Err(Error::PrincipalNotFound { principal_id, tenant_id });
        }
        let id = new.id.to_ascii_lowercase();
        if let Some(existing) = self.find_one::<RoleAssignment>(record::REALM, "id", &id).await? {
            let same = existing.record;
            let unchanged = (&same.principal_id, &same.scope, &same.role_definition_id);
            return if unchanged == (&principal_id, &scope, &role) {
                Ok(same)
            } else {
                Err(Error::RoleAssignmentUpdateNotPermitted)
            };
        }
        let now = self.0.clock.now();
        let assignment = RoleAssignment {
            id,
            scope,
            scope_path: new.scope_path,
            role_definition_id: role,
            principal_id,
            principal_type: new.principal_type.unwrap_or_else(|| "ServicePrincipal".to_owned()),
            description: new.description,
            created_on: now,
            updated_on: now,
            created_by: caller.object_id().to_owned(),
            updated_by: caller.object_id().to_owned(),
        };
        self.insert_role_assignment(assignment).await
    }

    async fn insert_role_assignment(&self, assignment: RoleAssignment) -> Result<RoleAssignment, Error> {
        let mut batch = Batch::default();
        batch.insert(&assignment);
        match self.0.store.commit(batch).await {
            Ok(_) => {}
            Err(CommitError::Conflict) => {
                let RoleAssignment { principal_id, scope, role_definition_id, .. } = &assignment;
                let key = RoleAssignment::key_of(principal_id, scope, role_definition_id);
                let existing = self.0.store.get::<RoleAssignment>(&key).await?;
                let id = existing.map_or(assignment.id, |stored| stored.record.id);
                return Err(Error::RoleAssignmentExists { id });
            }
            Err(error) => return Err(unexpected(error)),
        }
        self.0.callers.lock().clear();
        Ok(assignment)
    }

    /// `RoleAssignments_Get`.
    pub async fn get_role_assignment(
        &self,
        caller: &Caller,
        scope: &Scope,
        id: &str,
    ) -> Result<RoleAssignment, Error> {
        caller.require(Permission::Management("Microsoft.Authorization/roleAssignments/read"), scope)?;
        let id = id.to_ascii_lowercase();
        let found = self.find_one::<RoleAssignment>(record::REALM, "id", &id).await?;
        let found = found.map(|stored| stored.record).filter(|assignment| assignment.scope == *scope);
        found.ok_or(Error::RoleAssignmentNotFound { id })
    }

    /// `RoleAssignments_ListForScope`: at `scope`, above it and below it; the door applies its filter.
    pub async fn list_role_assignments(
        &self,
        caller: &Caller,
        scope: &Scope,
    ) -> Result<Vec<RoleAssignment>, Error> {
        caller.require(Permission::Management("Microsoft.Authorization/roleAssignments/read"), scope)?;
        let mut all = self.scan_assignments(Key::new([record::REALM])).await?;
        all.retain(|one| one.scope.contains(scope) || scope.contains(&one.scope));
        Ok(all)
    }

    /// `RoleAssignments_Delete`: what was removed, or `None` when there was none.
    pub async fn remove_role_assignment(
        &self,
        caller: &Caller,
        scope: &Scope,
        id: &str,
    ) -> Result<Option<RoleAssignment>, Error> {
        caller.require(Permission::Management("Microsoft.Authorization/roleAssignments/delete"), scope)?;
        let id = id.to_ascii_lowercase();
        let found = self.find_one::<RoleAssignment>(record::REALM, "id", &id).await?;
        let Some(stored) = found.filter(|stored| stored.record.scope == *scope) else { return Ok(None) };
        let mut batch = Batch::default();
        batch.delete(&stored);
        match self.0.store.commit(batch).await {
            // Someone else removed it first: the answer is the same.
            Ok(_) | Err(CommitError::Conflict) => {}
            Err(error) => return Err(unexpected(error)),
        }
        self.0.callers.lock().clear();
        Ok(Some(stored.record))
    }

    /// Removes what was assigned at or below a resource that is gone.
    pub async fn forget_scope(&self, scope: &Scope) -> Result<(), Error> {
        let caller = Caller::system();
        for assignment in self.scan_assignments(Key::new([record::REALM])).await? {
            if scope.contains(&assignment.scope) {
                self.remove_role_assignment(&caller, &assignment.scope, &assignment.id).await?;
            }
        }
        Ok(())
    }
}

async fn create_tenant(store: &Store, now: Timestamp) -> Result<TenantRecord, Error> {
    let tenant = TenantRecord {
        tenant_id: new_id(),
        subscription_id: new_id(),
        display_name: "twinhub".to_owned(),
        created_at: now,
        signing_key: SigningKeyRecord::generate()?,
    };
    let mut batch = Batch::default();
    batch.insert(&tenant);
    store.commit(batch).await.map_err(unexpected)?;
    Ok(tenant)
}

/// New random GUIDs cannot conflict and no counter is used, so only the store itself can have failed.
fn unexpected(error: CommitError) -> Error {
    match error {
        CommitError::Store(error) => Error::Store(error),
        other => Error::Store(StoreError::Corrupt(other.to_string())),
    }
}

fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
