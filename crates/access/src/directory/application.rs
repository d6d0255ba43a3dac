//! Applications as an operator wants them to be, with ids and secrets of his choice. A seed calls it.

use base::Secret;
use store::{Batch, Key, Stored, retry_on_conflict};
use store::{CommitError, MayConflict, StoreError};

use super::record::{ClientSecret, ServicePrincipal};
use super::{Directory, new_id};

/// What an application shall be; what is left open is made once, and kept.
#[derive(Clone, Debug)]
pub struct Application {
    pub display_name: String,
    pub app_id: Option<String>,
    pub secret: Option<Secret>,
}

#[derive(Clone, Debug)]
pub struct EnsuredApplication {
    pub principal: ServicePrincipal,
    pub is_new: bool,
    pub is_changed: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ApplicationError {
    #[error("the application '{name}' has the client id {has}, which cannot change")]
    OtherClientId { name: String, has: String },
    #[error("another principal has the client id {0}")]
    ClientIdTaken(String),
    #[error("it was written meanwhile")]
    WrittenMeanwhile,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayConflict for ApplicationError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::WrittenMeanwhile)
    }
}

impl From<CommitError> for ApplicationError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store(error) => Self::Store(error),
            _ => Self::WrittenMeanwhile,
        }
    }
}

impl Directory {
    /// The application of this name, made when there is none. A secret that is given takes the place of those it had.
    pub async fn ensure_application(
        &self,
        wanted: &Application,
    ) -> Result<EnsuredApplication, ApplicationError> {
        retry_on_conflict(async || {
            let app_id = wanted.app_id.as_ref().map(|id| id.to_ascii_lowercase());
            let named = self.service_principals_named(&wanted.display_name).await?;
            match named.into_iter().find(|principal| principal.resource.is_none()) {
                Some(old) => self.ensure_secret(&old, app_id.as_deref(), wanted).await,
                None => self.make_application(app_id, wanted).await,
            }
        })
        .await
    }

    async fn make_application(
        &self,
        app_id: Option<String>,
        wanted: &Application,
    ) -> Result<EnsuredApplication, ApplicationError> {
        if let Some(app_id) = &app_id
            && self.service_principal_by_app_id(app_id).await?.is_some()
        {
            return Err(ApplicationError::ClientIdTaken(app_id.clone()));
        }
        let principal = ServicePrincipal {
            object_id: new_id(),
            app_id: app_id.unwrap_or_else(new_id),
            display_name: wanted.display_name.clone(),
            secrets: vec![secret(wanted.secret.clone())],
            created_at: self.0.clock.now(),
            resource: None,
        };
        let mut batch = Batch::default();
        batch.insert(&principal);
        self.0.store.commit(batch).await?;
        Ok(EnsuredApplication { principal, is_new: true, is_changed: true })
    }

    async fn ensure_secret(
        &self,
        old: &ServicePrincipal,
        app_id: Option<&str>,
        wanted: &Application,
    ) -> Result<EnsuredApplication, ApplicationError> {
        if app_id.is_some_and(|app_id| app_id != old.app_id) {
            let (name, has) = (old.display_name.clone(), old.app_id.clone());
            return Err(ApplicationError::OtherClientId { name, has });
        }
        let has_it = |given: &Secret| old.secrets.iter().any(|own| own.secret.matches(given.expose()));
        let given = wanted.secret.as_ref().filter(|given| !has_it(given));
        let Some(given) = given else {
            return Ok(EnsuredApplication { principal: old.clone(), is_new: false, is_changed: false });
        };
        let key: Key = ServicePrincipal::key_of(&old.object_id);
        let stored: Option<Stored<ServicePrincipal>> = self.0.store.get(&key).await?;
        let stored = stored.ok_or(ApplicationError::WrittenMeanwhile)?;
        let principal =
            ServicePrincipal { secrets: vec![secret(Some(given.clone()))], ..stored.record.clone() };
        let mut batch = Batch::default();
        batch.replace(&stored, &principal);
        self.0.store.commit(batch).await?;
        Ok(EnsuredApplication { principal, is_new: false, is_changed: true })
    }
}

fn secret(given: Option<Secret>) -> ClientSecret {
    let secret = given.unwrap_or_else(super::rules::new_secret);
    ClientSecret { key_id: new_id(), secret, expires_at: None }
}
