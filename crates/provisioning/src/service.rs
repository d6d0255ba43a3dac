//! One provisioning service. Operations are written beside their nouns; here is what they share, and who may call.

use std::sync::Arc;

use access::{CaCertificateError, CaCertificates, Caller, Permission, shared_access};
use base::hosts::{Dialled, Service as HostedService};
use base::sas::SasToken;
use base::{InstanceId, Meter, Refused, Scope, Timestamp};
use hub::{Hub, Hubs};
use store::instances::Current;
use store::{Batch, CommitError, Committed, Key, Store};

use crate::error::Error;
use crate::ids::RegistrationId;
use crate::measures::Measures;
use crate::registration::{Assignment, Polls};
use crate::services::Context;
use crate::settings::{LinkedHub, ServiceSettings};

/// Clones share it.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    context: Context,
    instance: InstanceId,
    name: String,
    scope: Scope,
    id_scope: String,
    settings: Current<ServiceSettings>,
    polls: Polls,
    measures: Measures,
}

impl Service {
    pub(crate) fn new(context: Context, settings: Current<ServiceSettings>) -> Self {
        let first = settings.get();
        Self(Arc::new(Inner {
            instance: first.instance.clone(),
            name: first.name.clone(),
            scope: first.scope.clone(),
            id_scope: first.id_scope.clone(),
            settings,
            polls: Polls::default(),
            measures: Measures::default(),
            context,
        }))
    }

    /// Changes the CA certificates, of which `Services::ensure` knows nothing. Resource Manager calls, and asks whether the caller may.
    pub async fn change_certificates<T>(
        &self,
        change: impl Fn(&mut CaCertificates, Timestamp) -> Result<T, CaCertificateError>,
    ) -> Result<T, CaCertificateError> {
        let now = self.now();
        let change = |settings: &mut ServiceSettings| change(&mut settings.certificates, now);
        self.0.settings.change(self.store(), change).await?.ok_or(CaCertificateError::Gone)
    }

    pub fn measures(&self) -> &Measures {
        &self.0.measures
    }

    pub fn instance(&self) -> &InstanceId {
        &self.0.instance
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn scope(&self) -> &Scope {
        &self.0.scope
    }

    pub fn id_scope(&self) -> &str {
        &self.0.id_scope
    }

    /// The host that an answer to `dialled` carries.
    pub fn host_name(&self, dialled: &Dialled) -> String {
        let (hosts, settings) = (&self.0.context.hosts, self.settings());
        hosts.advertised(HostedService::Provisioning, self.name(), &settings.location, dialled)
    }

    /// At which host an answer to `dialled` finds the hub of an assignment.
    pub fn hub_host<'a>(&'a self, dialled: &'a Dialled) -> impl Fn(&Assignment) -> String + 'a {
        let hosts = &self.0.context.hosts;
        move |assignment| hosts.advertised(HostedService::Hub, &assignment.hub_name, "", dialled)
    }

    pub fn settings(&self) -> Arc<ServiceSettings> {
        self.0.settings.get()
    }

    /// A back end's token: policy by name, either key, host and expiry. `presented_host` is the host the caller addressed, and
    /// `path` the one it asks for.
    pub fn authenticate_service(
        &self,
        presented_host: &str,
        path: &str,
        token: &SasToken,
    ) -> Result<Caller, Refused<Error>> {
        let settings = self.settings();
        let refused = |why| {
            tracing::debug!(service = self.name(), ?token, why, "a service token was refused");
            Refused::new(Error::Unauthorized, why)
        };
        if settings.disable_local_auth {
            return Err(refused("policies are switched off"));
        }
        let policy = shared_access::vouching(&settings.policies, token, self.now()).map_err(refused)?;
        if !token.covers(&self.audiences(presented_host), path) {
            return Err(refused("the token is made out to another resource"));
        }
        Ok(Caller::policy(self.scope().clone(), &policy.key_name, &policy.rights))
    }

    fn audiences(&self, presented_host: &str) -> Vec<String> {
        self.0.context.hosts.audiences(HostedService::Provisioning, &self.0.name, presented_host)
    }

    /// Whether the caller may do something here. Doors ask before they read a body, and every operation does.
    pub fn require(&self, caller: &Caller, permission: Permission) -> Result<(), Error> {
        caller.require(permission, self.scope()).map_err(|denied| {
            // A policy has no name that its caller could ask anybody to give rights to.
            if caller.is_policy() { Error::Unauthorized } else { denied.into() }
        })
    }

    /// First line of every operation of the service API.
    pub(crate) fn admit(&self, caller: &Caller, permission: Permission) -> Result<(), Error> {
        self.require(caller, permission)?;
        self.charge(Meter::ServiceOperation)
    }

    pub(crate) fn charge(&self, meter: Meter) -> Result<(), Error> {
        Ok(self.0.context.throttle.charge(meter, &self.0.instance)?)
    }

    /// A poll is limited by its device and not by the service's load.
    pub(crate) fn charge_poll(&self, id: &RegistrationId) -> Result<(), Error> {
        Ok(self.0.polls.charge(id.folded(), self.0.context.clock.elapsed())?)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.context.store
    }

    /// Commits a change, provided that the service has not been removed meanwhile.
    pub(crate) async fn commit(&self, mut batch: Batch) -> Result<Committed, CommitError> {
        batch.guard_exists::<ServiceSettings>(Key::instance(self.instance()));
        self.store().commit(batch).await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.context.clock.now()
    }

    pub(crate) fn hubs(&self) -> &Hubs {
        &self.0.context.hubs
    }

    /// A link by its name in an enrollment, or by any host at which clients are told to find its hub.
    pub(crate) fn find_link<'a>(&self, settings: &'a ServiceSettings, text: &str) -> Option<&'a LinkedHub> {
        let hosts = &self.0.context.hosts;
        let is_there = |link: &&LinkedHub| hosts.is_at(HostedService::Hub, &link.hub_name, text);
        settings.linked_hub(text).or_else(|| settings.linked_hubs.iter().find(is_there))
    }

    pub(crate) fn hub_of(&self, link: &LinkedHub) -> Option<Hub> {
        self.hubs().find(&link.hub_name)
    }
}

#[cfg(test)]
mod tests {
    use access::CaCertificateDraft;
    use base::IfMatch;

    use crate::testing::{CERTIFICATE, TestService};

    fn draft(name: &str) -> CaCertificateDraft {
        CaCertificateDraft { name: name.to_owned(), certificate: CERTIFICATE.to_owned(), is_verified: None }
    }

    #[tokio::test]
    async fn new_settings_of_the_service_leave_its_certificates() {
        let test = TestService::with_hubs(&[]).await;
        let before = (*test.service.settings()).clone();
        let made = test.put_certificate(&draft("ca"), &IfMatch::Absent).await;
        test.services.ensure(before).await.unwrap();
        assert_eq!(test.service.settings().certificates.find("CA"), Some(&made));
    }

    #[tokio::test]
    async fn certificates_that_come_at_the_same_time_are_all_kept() {
        let test = TestService::with_hubs(&[]).await;
        let drafts = ["a", "b", "c", "d"].map(draft);
        let put = |at: usize| test.put_certificate(&drafts[at], &IfMatch::Absent);
        tokio::join!(put(0), put(1), put(2), put(3));
        assert_eq!(test.service.settings().certificates.iter().count(), 4);
    }
}
