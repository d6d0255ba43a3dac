//! The directory: one tenant with its service principals, role assignments and token issuer.
//! The Entra door asks it for tokens, every door for the caller behind one, Resource Manager for role assignments, whoever
//! acts in the name of a managed identity for what that may do.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Continuation, Page, Scope, Secret, Timestamp, caps};
use store::changes::{Keeper, Kept, Reading};
use store::{Batch, CommitError, Find, Key, MayConflict, Record, Scan, Store, StoreError};

use crate::caller::Caller;
use crate::permission::Permission;
use crate::secrets::{SecretError, Vault};
use crate::signing_key::{NotSigned, PublicSigningKey, SigningKey, SigningKeyError};
use crate::token::{self, TokenError};

mod application;
mod callers;
mod patience;
mod record;
mod role_assignment;
mod rules;
mod tenant;
#[cfg(test)]
mod tests;
mod verified;

pub use application::{Application, ApplicationError, EnsuredApplication};
use callers::{Callers, Holder};
use patience::{Guesser, Patience};
pub use record::{ClientSecret, RoleAssignment, ServicePrincipal};
pub use role_assignment::{NewRoleAssignment, PutRoleAssignment, RoleError};
pub use rules::{ClientCredentials, GrantError};
use verified::Verified;

/// What can go wrong with the directory itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayConflict for Error {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Secret(error) if error.is_conflict())
    }
}

/// What a directory stands on.
pub struct Context {
    pub store: Store,
    pub clock: Clock,
    pub domain: String,
    /// Names and addresses beside the domain under which clients reach this server and may ask for tokens of it.
    pub own_hosts: Vec<String>,
    /// Where the token signing key is, if not in the tenant's record.
    pub vault: Option<Vault>,
}

/// A token and how long it lives.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    pub access_token: Secret,
    pub expires_in: u64,
    pub not_before: Timestamp,
    pub expires_on: Timestamp,
}

/// The identity that a resource has, as its owner tells the directory of it.
#[derive(Clone, Copy, Debug)]
pub struct ManagedIdentity<'a> {
    pub object_id: &'a str,
    /// A system-assigned identity has one that nobody needs to know; it is made up.
    pub app_id: Option<&'a str>,
    pub display_name: &'a str,
    pub resource_path: &'a str,
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
    callers: Callers,
    verified: Verified,
    patience: Patience,
}

impl Inner {
    /// After a change of roles.
    fn forget(&self) {
        self.callers.forget();
        self.verified.forget();
    }
}

impl Directory {
    /// Opens the tenant of `store`, making it when there is none.
    pub async fn open(
        store: Store,
        clock: Clock,
        domain: &str,
        own_hosts: Vec<String>,
    ) -> Result<Self, Error> {
        Self::with(Context { store, clock, domain: domain.to_owned(), own_hosts, vault: None }).await
    }

    pub async fn with(context: Context) -> Result<Self, Error> {
        let Context { store, clock, domain, own_hosts, vault } = context;
        let (tenant, signing_key) = tenant::ensure(&store, vault.as_ref(), clock.now()).await?;
        let signing_key = SigningKey::load(&signing_key)?;
        Ok(Self(Arc::new(Inner {
            store,
            clock,
            domain: domain.to_ascii_lowercase(),
            own_hosts,
            tenant_id: tenant.tenant_id,
            subscription_id: tenant.subscription_id,
            display_name: tenant.display_name,
            signing_key,
            callers: Callers::default(),
            verified: Verified::new(),
            patience: Patience::default(),
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
            resource: None,
        };
        let mut batch = Batch::default();
        batch.insert(&principal);
        self.0.store.commit(batch).await.map_err(unexpected)?;
        Ok(principal)
    }

    /// The first application of this name, made when there is none.
    pub async fn ensure_service_principal(&self, display_name: &str) -> Result<ServicePrincipal, Error> {
        let named = self.find_service_principals("display_name", display_name).await?;
        match named.into_iter().find(|principal| principal.resource.is_none()) {
            Some(principal) => Ok(principal),
            None => self.create_service_principal(display_name).await,
        }
    }

    /// Makes a resource's managed identity a principal, in the batch that writes the resource. It has no secret, so nobody can
    /// log in as it.
    pub fn enter_managed_identity(&self, batch: &mut Batch, identity: &ManagedIdentity<'_>) {
        let principal = ServicePrincipal {
            object_id: identity.object_id.to_ascii_lowercase(),
            app_id: identity.app_id.map_or_else(new_id, str::to_ascii_lowercase),
            display_name: identity.display_name.to_owned(),
            secrets: Vec::new(),
            created_at: self.0.clock.now(),
            resource: Some(identity.resource_path.to_owned()),
        };
        batch.put(&principal);
    }

    /// Takes a managed identity and what it held out of the directory. Safe to repeat. The principal goes first: what is given
    /// to it from now on is given to nobody, so that nothing is left behind.
    pub async fn remove_managed_identity(&self, object_id: &str) -> Result<(), RoleError> {
        let object_id = object_id.to_ascii_lowercase();
        let mut batch = Batch::default();
        batch.remove::<ServicePrincipal>(ServicePrincipal::key_of(&object_id));
        self.0.store.commit(batch).await.map_err(role_assignment::written)?;
        self.remove_role_assignments_of(&object_id).await
    }

    pub async fn service_principal(&self, object_id: &str) -> Result<Option<ServicePrincipal>, StoreError> {
        let key = ServicePrincipal::key_of(&object_id.to_ascii_lowercase());
        Ok(self.0.store.get::<ServicePrincipal>(&key).await?.map(|stored| stored.record))
    }

    pub async fn service_principal_by_app_id(
        &self,
        app_id: &str,
    ) -> Result<Option<ServicePrincipal>, StoreError> {
        Ok(self.find_service_principals("app_id", &app_id.to_ascii_lowercase()).await?.pop())
    }

    /// Applications and managed identities of this name.
    pub async fn service_principals_named(
        &self,
        display_name: &str,
    ) -> Result<Vec<ServicePrincipal>, StoreError> {
        self.find_service_principals("display_name", display_name).await
    }

    /// All of them, page by page; what is no place in the list is its beginning.
    pub async fn service_principals(
        &self,
        after: Option<&Continuation>,
    ) -> Result<Page<ServicePrincipal>, StoreError> {
        let after = after.and_then(|token| token.decode::<Key>().ok());
        let scan = Scan { prefix: Key::new([record::REALM]), after, limit: caps::RESOURCE_PAGE + 1 };
        let mut rows = self.0.store.scan::<ServicePrincipal>(scan).await?;
        let has_more = rows.len() > caps::RESOURCE_PAGE;
        rows.truncate(caps::RESOURCE_PAGE);
        let next = rows.last().filter(|_| has_more).map(|row| Continuation::encode(&row.record.key()));
        Ok(Page { items: rows.into_iter().map(|row| row.record).collect(), next })
    }

    async fn find_service_principals(
        &self,
        column: &'static str,
        value: &str,
    ) -> Result<Vec<ServicePrincipal>, StoreError> {
        let find = Find::new(Key::new([record::REALM]), column, value, caps::RESOURCE_PAGE);
        let found = self.0.store.find::<ServicePrincipal>(find).await?;
        Ok(found.into_iter().map(|stored| stored.record).collect())
    }

    /// A token for an application that proves itself by its secret (`client_credentials`).
    pub async fn issue(&self, request: &ClientCredentials<'_>) -> Result<IssuedToken, GrantError> {
        let client_id = request.client_id.to_owned();
        let principal = self.service_principal_by_app_id(&client_id).await?;
        let principal = principal.ok_or(GrantError::UnknownApplication { client_id })?;
        let now = self.0.clock.now();
        self.check_secret(&principal, request, now)?;
        let application = self.application_of(request.resource).await?;
        let is_own_application = application.is_some();
        if !(is_own_application || self.is_own(request.resource) || token::is_azure(request.resource)) {
            return Err(GrantError::UnknownResource { resource: request.resource.to_owned() });
        }
        let version = rules::version_for(request.resource, is_own_application);
        let claims = rules::claims(&principal, request, &self.0.tenant_id, version, now);
        Ok(IssuedToken {
            access_token: Secret::new(self.0.signing_key.sign(&claims)),
            expires_in: caps::ACCESS_TOKEN_SECONDS,
            not_before: now,
            expires_on: now.plus(Duration::from_secs(caps::ACCESS_TOKEN_SECONDS)),
        })
    }

    /// Whoever has guessed too often waits, and is not told whether this guess was right.
    fn check_secret(
        &self,
        principal: &ServicePrincipal,
        request: &ClientCredentials<'_>,
        now: Timestamp,
    ) -> Result<(), GrantError> {
        let guesser = Guesser::new(&principal.app_id, request.from);
        if let Some(retry_after) = self.0.patience.wait(&guesser, self.0.clock.elapsed()) {
            return Err(GrantError::TooManyWrongSecrets { retry_after });
        }
        let checked = rules::check_secret(principal, request.client_secret, now);
        if matches!(checked, Err(GrantError::InvalidSecret { .. })) {
            self.0.patience.was_wrong(guesser, self.0.clock.elapsed());
        }
        checked
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
        let now = self.0.clock.now();
        let claims = self.0.verified.claims(token, now, || self.0.signing_key.verify(token));
        let claims = claims.map_err(|error| match error {
            NotSigned::Malformed => TokenError::Malformed,
            NotSigned::UnknownKey | NotSigned::BadSignature => TokenError::Signature,
        })?;
        token::check(&claims, &self.0.tenant_id, now)?;
        if !self.is_meant_for(&claims.aud, audiences) {
            return Err(TokenError::Audience { audience: claims.aud.clone() });
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
        let holder = self.holder(object_id).await?;
        if holder.is_in_directory {
            return Ok(holder.caller);
        }
        Err(TokenError::UnknownPrincipal { object_id: object_id.to_owned() })
    }

    /// Whether a principal may do `permission` at `scope`: a managed identity in whose name something is sent, say. Cheap enough
    /// for every message: it reads the store once in `caps::GRANTS_CACHED_SECONDS`. An id that the directory has never heard
    /// of may do what it was given.
    pub async fn allows(
        &self,
        object_id: &str,
        permission: Permission,
        scope: &Scope,
    ) -> Result<bool, StoreError> {
        Ok(self.holder(object_id).await?.caller.require(permission, scope).is_ok())
    }

    async fn holder(&self, object_id: &str) -> Result<Holder, StoreError> {
        let (object_id, now) = (object_id.to_ascii_lowercase(), self.0.clock.elapsed());
        if let Some(holder) = self.0.callers.get(&object_id, now) {
            return Ok(holder);
        }
        let changes = self.0.callers.changes();
        let principal = self.service_principal(&object_id).await?;
        let assignments = self.role_assignments_of(&object_id).await?;
        let grants = assignments.iter().filter_map(rules::grant).collect();
        let name = principal.as_ref().map_or(&object_id, |principal| &principal.app_id);
        let caller = Caller::principal(&object_id, name, true, grants);
        let holder = Holder { caller, is_in_directory: principal.is_some() };
        self.0.callers.keep(&object_id, holder.clone(), changes, now);
        Ok(holder)
    }
}

impl Keeper for Directory {
    fn kept(&self) -> Vec<Kept> {
        vec![Kept::of::<RoleAssignment>(), Kept::of::<ServicePrincipal>()]
    }

    /// Each caller's when they come next.
    fn read_again(&self) -> Reading<'_> {
        Box::pin(async {
            self.0.forget();
            Ok(())
        })
    }
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
