//! Who calls: tokens of policies and of device keys, and certificates of devices, become callers. Doors call these first; they must never say why they refuse.

use access::{Caller, ClientCertificates, Permission, Right, SharedAccessPolicy, shared_access};
use base::ids::IdentityId;
use base::sas::SasToken;
use base::{Refused, Timestamp};

use crate::error::Error;
use crate::hub::Hub;
use crate::identity::{Authentication, Identity, identity_key};

/// A device or module that has proved who it is, or a policy that acts for it.
#[derive(Clone, Debug)]
pub struct DeviceAuthentication {
    pub caller: Caller,
    pub identity: IdentityId,
    pub generation_id: String,
    /// When the credential ends; `None` for a certificate, which is looked at when its device connects.
    pub expires_at: Option<Timestamp>,
    /// The value of `iothub-connection-auth-method`.
    pub auth_method: String,
}

impl Hub {
    /// A service's token: policy by name, either key, resource and expiry. `presented_host` and `path` are what the caller
    /// addressed.
    pub fn authenticate_service(
        &self,
        presented_host: &str,
        path: &str,
        token: &SasToken,
    ) -> Result<Caller, Refused<Error>> {
        let policy = self.verified_policy(token)?;
        if token.covers_in_any_case(&self.audiences(presented_host), path) {
            return Ok(Caller::policy(self.scope().clone(), &policy.key_name, &policy.rights));
        }
        Err(self.refuse_token(token, "the token is made out to another resource"))
    }

    /// A device's or module's token, signed with its own key or with that of a policy that may connect devices
    /// (`iothub-device.md` §2.1).
    pub async fn authenticate_device(
        &self,
        presented_host: &str,
        id: &IdentityId,
        token: &SasToken,
    ) -> Result<DeviceAuthentication, Refused<Error>> {
        let identity = self.connectable(id).await?;
        if !self.is_made_out_to(token, presented_host, id).await? {
            return Err(self.refuse(id, "the token is made out to another resource"));
        }
        if matches!(
            identity.authentication,
            Authentication::SelfSigned { .. } | Authentication::CertificateAuthority
        ) {
            return Err(self.refuse(id, "it is registered for certificates"));
        }
        let expires_at = Some(token.expires_at());
        let authenticated = |caller, auth_method| DeviceAuthentication {
            caller,
            identity: id.clone(),
            generation_id: identity.generation_id.clone(),
            expires_at,
            auth_method,
        };
        if token.key_name().is_some() {
            let policy = self.verified_policy(token)?;
            let caller = Caller::policy(self.scope().clone(), &policy.key_name, &policy.rights);
            caller
                .require(Permission::DeviceConnect, self.scope())
                .map_err(|_| self.refuse(id, "the token's policy may not connect devices"))?;
            return Ok(authenticated(caller, auth_method("hub", SAS)));
        }
        let Authentication::Sas { primary_key, secondary_key } = &identity.authentication else {
            return Err(self.refuse(id, "it has no keys"));
        };
        token
            .check([primary_key, secondary_key], self.clock().now())
            .map_err(|why| self.refuse_token(token, why))?;
        Ok(authenticated(Caller::identity(self.scope().clone(), id.clone()), auth_method(scope_of(id), SAS)))
    }

    /// A device or module by the certificates of its handshake, leaf first, in DER (`iothub-device.md` §2.8). Whoever presented
    /// them has proved to hold the key of the first one.
    pub async fn authenticate_device_by_certificate(
        &self,
        id: &IdentityId,
        presented: &[impl AsRef<[u8]> + Sync],
    ) -> Result<DeviceAuthentication, Refused<Error>> {
        let identity = self.connectable(id).await?;
        let presented = ClientCertificates::read(presented).map_err(|why| self.refuse(id, why))?;
        let judged = match &identity.authentication {
            Authentication::SelfSigned { primary_thumbprint, secondary_thumbprint } => {
                let registered = primary_thumbprint.iter().chain(secondary_thumbprint);
                presented.match_thumbprint(registered.map(String::as_str))
            }
            Authentication::CertificateAuthority => presented.lead_to(
                &self.settings().certificates.verified(),
                &id.to_string(),
                self.clock().now(),
            ),
            Authentication::Sas { .. } => Err("it is registered for keys and presented no token"),
            Authentication::None => Err("it may not connect by itself"),
        };
        judged.map_err(|why| self.refuse(id, why))?;
        Ok(DeviceAuthentication {
            caller: Caller::identity(self.scope().clone(), id.clone()),
            identity: id.clone(),
            generation_id: identity.generation_id,
            expires_at: None,
            auth_method: auth_method(scope_of(id), X509),
        })
    }

    /// Whether a device's token is made out to its identity or to what lies above it, or to that very identity with an API
    /// version behind it, as a page of the service shows it (`field-notes.md`). Some SDKs escape the id twice, which a key of its
    /// own vouches for; a policy's key fits every id, so then no device may have the id that the token says when it is read once.
    async fn is_made_out_to(
        &self,
        token: &SasToken,
        presented_host: &str,
        id: &IdentityId,
    ) -> Result<bool, Error> {
        let (hosts, path) = (self.audiences(presented_host), resource_path(id));
        let resource = token.resource();
        let version = resource.rsplit('/').next().filter(|last| last.starts_with("api-version="));
        let with_version = version.map(|version| format!("{path}/{version}"));
        let is_read_once = token.covers(&hosts, &path);
        if is_read_once || with_version.is_some_and(|path| token.covers(&hosts, &path)) {
            return Ok(true);
        }
        if !token.covers_escaped_twice(&hosts, &path) {
            return Ok(false);
        }
        if token.key_name().is_none() {
            return Ok(true);
        }
        let mut segments = resource.split('/').skip_while(|segment| *segment != "devices").skip(1);
        let read_once = segments.next().and_then(|device_id| device_id.parse().ok());
        match read_once.map(IdentityId::device) {
            Some(other) => Ok(self.identity(&other).await?.is_none()),
            None => Ok(true),
        }
    }

    /// The identity, if it and its device are enabled.
    pub(crate) async fn connectable(&self, id: &IdentityId) -> Result<Identity, Refused<Error>> {
        let Some(identity) = self.identity(id).await? else {
            return Err(self.refuse(id, "it is not registered"));
        };
        let device_enabled = if id.module_id.is_none() {
            identity.record.is_enabled()
        } else {
            let device = self.identity(&IdentityId::device(id.device_id.clone())).await?;
            device.is_some_and(|device| device.record.is_enabled())
        };
        if device_enabled { Ok(identity.record) } else { Err(self.refuse(id, "its device is disabled")) }
    }

    fn verified_policy(&self, token: &SasToken) -> Result<SharedAccessPolicy, Refused<Error>> {
        let settings = self.settings();
        if settings.disable_local_auth {
            return Err(self.refuse_token(token, "policies are switched off"));
        }
        let policy = shared_access::vouching(&settings.policies, token, self.clock().now());
        policy.cloned().map_err(|why| self.refuse_token(token, why))
    }

    fn refuse_token(&self, token: &SasToken, why: &'static str) -> Refused<Error> {
        tracing::debug!(hub = self.name(), ?token, why, "a token was refused");
        Refused::new(Error::IotHubUnauthorizedAccess, why)
    }

    fn refuse(&self, id: &IdentityId, why: &'static str) -> Refused<Error> {
        tracing::debug!(hub = self.name(), identity = %id, why, "a device was refused");
        Refused::new(Error::IotHubUnauthorizedAccess, why)
    }

    /// The first policy that holds every one of `rights`: for connection strings.
    pub fn policy_with(&self, rights: &[Right]) -> Option<SharedAccessPolicy> {
        let settings = self.settings();
        settings.policies.iter().find(|policy| policy.has_rights(rights)).cloned()
    }
}

/// The path below the host that a token for `id` is made out to.
fn resource_path(id: &IdentityId) -> String {
    match &id.module_id {
        None => format!("/devices/{}", id.device_id),
        Some(module_id) => format!("/devices/{}/modules/{module_id}", id.device_id),
    }
}

/// What proved an identity, and who gave that out.
const SAS: (&str, &str) = ("sas", "iothub");
const X509: (&str, &str) = ("x509", "external");

fn scope_of(id: &IdentityId) -> &'static str {
    if id.module_id.is_some() { "module" } else { "device" }
}

fn auth_method(scope: &str, (kind, issuer): (&str, &str)) -> String {
    format!(r#"{{"scope":"{scope}","type":"{kind}","issuer":"{issuer}","acceptingIpFilterRule":null}}"#)
}

impl Hub {
    pub(crate) async fn identity(&self, id: &IdentityId) -> Result<Option<store::Stored<Identity>>, Error> {
        Ok(self.store().get::<Identity>(&identity_key(self.instance(), id)).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use access::CaCertificateDraft;
    use base::{Key, sas};
    use test_certificates::{Certified, authority, date_time_ymd, leaf, with};

    use super::*;
    use crate::HubSettings;
    use crate::device::{AuthenticationKind, AuthenticationSpec, DeviceSpec, ModuleSpec, Status};
    use crate::testing::{HOST, TestHub, module_spec, settings, system};

    /// The status of a device's token for `sr`, signed with `key`.
    async fn device(hub: &TestHub, id: &str, sr: &str, key: &Key, key_name: Option<&str>) -> Result<(), u32> {
        let token = hub.token(sr, key, key_name);
        let result = hub.authenticate_device(HOST, &id.parse().unwrap(), &token).await;
        result.map(drop).map_err(|refused| refused.error.code())
    }

    fn keys(identity: &Identity) -> [Key; 2] {
        match &identity.authentication {
            Authentication::Sas { primary_key, secondary_key } => {
                [primary_key.clone(), secondary_key.clone()]
            }
            other => panic!("{other:?} has no keys"),
        }
    }

    #[tokio::test]
    async fn either_key_of_a_device_opens_its_own_resource_and_nothing_else() {
        let hub = TestHub::with_module().await;
        let (device_keys, module_keys) =
            (keys(&hub.stored("dev1").await), keys(&hub.stored("dev1/mod1").await));
        let (device_path, module_path) =
            (format!("{HOST}/devices/dev1"), format!("{HOST}/devices/dev1/modules/mod1"));
        for key in &device_keys {
            assert_eq!(device(&hub, "dev1", &device_path, key, None).await, Ok(()));
            assert_eq!(device(&hub, "dev1", &format!("{HOST}/devices/dev2"), key, None).await, Err(401_002));
            assert_eq!(
                device(&hub, "dev1", "other.azure-devices.localhost/devices/dev1", key, None).await,
                Err(401_002)
            );
            assert_eq!(
                device(&hub, "dev1/mod1", &module_path, key, None).await,
                Err(401_002),
                "not a module's"
            );
            assert_eq!(device(&hub, "dev2", &format!("{HOST}/devices/dev2"), key, None).await, Err(401_002));
        }
        for key in &module_keys {
            assert_eq!(device(&hub, "dev1/mod1", &module_path, key, None).await, Ok(()));
            assert_eq!(device(&hub, "dev1", &device_path, key, None).await, Err(401_002), "not the device's");
        }
    }

    #[tokio::test]
    async fn an_api_version_behind_the_own_resource_is_good_and_opens_nothing_else() {
        let hub = TestHub::with_module().await;
        hub.create_device("dev2").await;
        hub.create_device("api-version=2016-11-14").await;
        let [key, _] = keys(&hub.stored("dev1").await);
        let [module_key, _] = keys(&hub.stored("dev1/mod1").await);
        let versioned = |path: &str| format!("{HOST}/{path}/api-version=2016-11-14");
        let (own, module) = (versioned("devices/dev1"), versioned("devices/dev1/modules/mod1"));
        assert_eq!(device(&hub, "dev1", &own, &key, None).await, Ok(()));
        assert_eq!(device(&hub, "dev1/mod1", &module, &module_key, None).await, Ok(()));
        let policy = hub.policy_with(&[Right::DeviceConnect]).unwrap();
        let (policy_key, policy) = (&policy.primary_key, Some(policy.key_name.as_str()));
        assert_eq!(device(&hub, "dev1", &own, policy_key, policy).await, Ok(()));
        for (id, sr, key, policy) in [
            ("dev2", own.clone(), policy_key, policy),
            ("dev1/mod1", own.clone(), policy_key, policy),
            ("dev1", module, policy_key, policy),
            ("api-version=2016-11-14", own, policy_key, policy),
            ("dev1", versioned("devices"), policy_key, policy),
            ("dev1", versioned("devices/dev1/messages"), &key, None),
            ("dev1", format!("{}/x", versioned("devices/dev1")), &key, None),
            ("dev1", format!("{HOST}/api-version=2016-11-14"), policy_key, policy),
            ("dev1", format!("{HOST}/devices/dev1/messages/events"), &key, None),
            ("dev1", "other.azure-devices.localhost/devices/dev1/api-version=1".to_owned(), &key, None),
        ] {
            assert_eq!(device(&hub, id, &sr, key, policy).await, Err(401_002), "{sr} for {id}");
        }
    }

    #[tokio::test]
    async fn an_id_that_looks_escaped_is_no_other_id() {
        let hub = TestHub::with_device("a#").await;
        let [key, _] = keys(&hub.stored("a#").await);
        let policy = hub.policy_with(&[Right::DeviceConnect]).unwrap();
        let (policy_key, policy) = (&policy.primary_key, Some(policy.key_name.as_str()));
        let looks_escaped = format!("{HOST}/devices/a%23");
        assert_eq!(device(&hub, "a#", &looks_escaped, &key, None).await, Ok(()), "some SDKs escape twice");
        assert_eq!(device(&hub, "a#", &looks_escaped, policy_key, policy).await, Ok(()), "with a policy too");
        hub.create_device("a%23").await;
        assert_eq!(
            device(&hub, "a#", &looks_escaped, &key, None).await,
            Ok(()),
            "its own key vouches for it"
        );
        assert_eq!(device(&hub, "a#", &looks_escaped, policy_key, policy).await, Err(401_002));
        assert_eq!(device(&hub, "a%23", &looks_escaped, policy_key, policy).await, Ok(()));
        let other = format!("{HOST}/devices/a%2323");
        assert_eq!(device(&hub, "a#", &other, policy_key, policy).await, Err(401_002));
    }

    #[tokio::test]
    async fn a_policy_that_may_connect_devices_opens_every_device() {
        let hub = TestHub::with_module().await;
        for policy in hub.policies() {
            let expected = if policy.rights.contains(&Right::DeviceConnect) { Ok(()) } else { Err(401_002) };
            for sr in [HOST.to_owned(), format!("{HOST}/devices"), format!("{HOST}/devices/dev1")] {
                for key in [&policy.primary_key, &policy.secondary_key] {
                    assert_eq!(device(&hub, "dev1", &sr, key, Some(&policy.key_name)).await, expected);
                    assert_eq!(device(&hub, "dev1/mod1", &sr, key, Some(&policy.key_name)).await, expected);
                }
            }
            assert_eq!(device(&hub, "dev1", HOST, &policy.primary_key, Some("nobody")).await, Err(401_002));
        }
        let policy = hub.policy_with(&[Right::DeviceConnect]).unwrap();
        let token = hub.token(HOST, &policy.primary_key, Some(&policy.key_name));
        let authentication = hub.authenticate_device(HOST, &"dev1".parse().unwrap(), &token).await.unwrap();
        assert!(authentication.auth_method.contains(r#""scope":"hub""#));
        assert!(hub.open_session(authentication, None).await.is_ok());
    }

    #[tokio::test]
    async fn a_token_ends_five_minutes_after_its_expiry() {
        let hub = TestHub::with_device("dev1").await;
        let [key, _] = keys(&hub.stored("dev1").await);
        let token = hub.token(&format!("{HOST}/devices/dev1"), &key, None);
        let id = "dev1".parse().unwrap();
        hub.clock.advance(Duration::from_secs(3600 + 299));
        let authentication = hub.authenticate_device(HOST, &id, &token).await.unwrap();
        assert_eq!(authentication.expires_at, Some(token.expires_at()));
        hub.clock.advance(Duration::from_secs(2));
        assert_eq!(hub.authenticate_device(HOST, &id, &token).await.unwrap_err().error.code(), 401_002);
    }

    #[tokio::test]
    async fn a_device_that_is_disabled_or_has_certificates_is_refused() {
        let hub = TestHub::with_module().await;
        let (device_key, module_key) =
            (keys(&hub.stored("dev1").await)[0].clone(), keys(&hub.stored("dev1/mod1").await)[0].clone());
        let mut spec = DeviceSpec { status: Status::Disabled, ..DeviceSpec::new("dev1".parse().unwrap()) };
        spec.authentication.primary_key = Some((&device_key).into());
        spec.authentication.secondary_key = Some((&device_key).into());
        hub.put_device(&system(), &spec, &base::IfMatch::Any).await.unwrap();
        let path = format!("{HOST}/devices/dev1");
        assert_eq!(device(&hub, "dev1", &path, &device_key, None).await, Err(401_002));
        let module_path = format!("{path}/modules/mod1");
        assert_eq!(device(&hub, "dev1/mod1", &module_path, &module_key, None).await, Err(401_002));

        spec.status = Status::Enabled;
        hub.put_device(&system(), &spec, &base::IfMatch::Any).await.unwrap();
        assert_eq!(device(&hub, "dev1", &path, &device_key, None).await, Ok(()));
        spec.authentication =
            AuthenticationSpec { primary_thumbprint: Some("ab".repeat(20)), ..AuthenticationSpec::default() };
        hub.put_device(&system(), &spec, &base::IfMatch::Any).await.unwrap();
        assert_eq!(device(&hub, "dev1", &path, &device_key, None).await, Err(401_002));
        let policy = hub.settings().policy("device").unwrap().clone();
        assert_eq!(device(&hub, "dev1", HOST, &policy.primary_key, Some("device")).await, Err(401_002));
    }

    /// The status of a device that presents `chain`.
    async fn by_certificate(hub: &TestHub, id: &str, chain: &[&Certified]) -> Result<String, u32> {
        let chain: Vec<_> = chain.iter().map(|certified| &certified.der).collect();
        let result = hub.authenticate_device_by_certificate(&id.parse().unwrap(), &chain).await;
        result.map(|authentication| authentication.auth_method).map_err(|refused| refused.error.code())
    }

    fn thumbprints(primary: Option<&str>, secondary: Option<&str>) -> AuthenticationSpec {
        AuthenticationSpec {
            kind: Some(AuthenticationKind::SelfSigned),
            primary_thumbprint: primary.map(str::to_owned),
            secondary_thumbprint: secondary.map(str::to_owned),
            ..AuthenticationSpec::default()
        }
    }

    async fn register(hub: &TestHub, id: &str, authentication: AuthenticationSpec) {
        let id: IdentityId = id.parse().unwrap();
        let put = if id.module_id.is_some() {
            let spec = ModuleSpec { authentication, ..module_spec(&id.to_string()) };
            hub.put_module(&system(), &spec, &base::IfMatch::Any).await
        } else {
            let spec = DeviceSpec { authentication, ..DeviceSpec::new(id.device_id) };
            hub.put_device(&system(), &spec, &base::IfMatch::Any).await
        };
        put.unwrap();
    }

    #[tokio::test]
    async fn a_device_or_module_is_let_in_by_either_thumbprint_of_its_own_certificate() {
        let hub = TestHub::with_module().await;
        let [own, others] = ["dev1", "dev2"].map(|name| Certified::own(leaf(name)));
        let described = access::certificates::describe(&own.der).unwrap();
        let (sha1, sha256) = (described.sha1_thumbprint.to_lowercase(), described.sha256_thumbprint);
        let absent = "ab".repeat(20);
        for (id, scope) in [("dev1", "device"), ("dev1/mod1", "module")] {
            for (primary, secondary) in [
                (Some(&*sha1), None),
                (Some(&*sha256), Some(&*absent)),
                (Some(&*absent), Some(&*sha1)),
                (None, Some(&*sha256)),
            ] {
                register(&hub, id, thumbprints(primary, secondary)).await;
                let expected = format!(
                    r#"{{"scope":"{scope}","type":"x509","issuer":"external","acceptingIpFilterRule":null}}"#
                );
                assert_eq!(by_certificate(&hub, id, &[&own]).await, Ok(expected), "{id}");
                assert_eq!(by_certificate(&hub, id, &[&others]).await, Err(401_002), "{id}");
                assert_eq!(by_certificate(&hub, id, &[&others, &own]).await, Err(401_002), "not the leaf");
                assert_eq!(by_certificate(&hub, id, &[]).await, Err(401_002), "{id}");
            }
            register(&hub, id, thumbprints(None, None)).await;
            assert_eq!(by_certificate(&hub, id, &[&own]).await, Err(401_002), "nothing is registered");
        }
        assert_eq!(by_certificate(&hub, "nobody", &[&own]).await, Err(401_002));
    }

    #[tokio::test]
    async fn a_certificate_lets_no_device_in_that_is_disabled_or_has_keys() {
        let hub = TestHub::with_module().await;
        let own = Certified::own(leaf("dev1"));
        let thumbprint = access::certificates::describe(&own.der).unwrap().sha256_thumbprint;
        for id in ["dev1", "dev1/mod1"] {
            assert_eq!(by_certificate(&hub, id, &[&own]).await, Err(401_002), "{id} has keys");
            register(&hub, id, thumbprints(Some(&thumbprint), None)).await;
            assert!(by_certificate(&hub, id, &[&own]).await.is_ok());
        }
        let mut spec = DeviceSpec { status: Status::Disabled, ..DeviceSpec::new("dev1".parse().unwrap()) };
        spec.authentication = thumbprints(Some(&thumbprint), None);
        hub.put_device(&system(), &spec, &base::IfMatch::Any).await.unwrap();
        for id in ["dev1", "dev1/mod1"] {
            assert_eq!(by_certificate(&hub, id, &[&own]).await, Err(401_002), "{id} is disabled");
        }
    }

    async fn upload(hub: &TestHub, name: &str, authority: &Certified, is_verified: bool) {
        let draft = CaCertificateDraft {
            name: name.to_owned(),
            certificate: authority.pem.clone(),
            is_verified: Some(is_verified),
        };
        hub.change_certificates(|all, now| all.put(&draft, &base::IfMatch::Any, now)).await.unwrap();
    }

    #[tokio::test]
    async fn a_verified_authority_of_the_hub_vouches_for_the_identity_that_its_certificate_names() {
        let hub = TestHub::with_module().await;
        let by_authority = AuthenticationSpec {
            kind: Some(AuthenticationKind::CertificateAuthority),
            ..AuthenticationSpec::default()
        };
        let root = Certified::own(authority("root"));
        let intermediate = root.signs(authority("intermediate"));
        for (id, other) in [("dev1", "dev2"), ("dev1/mod1", "mod1"), ("dev1/mod1", "dev1")] {
            register(&hub, id, by_authority.clone()).await;
            let (own, others) = (intermediate.signs(leaf(id)), intermediate.signs(leaf(other)));
            upload(&hub, "root", &root, false).await;
            assert_eq!(by_certificate(&hub, id, &[&own, &intermediate]).await, Err(401_002), "not verified");
            upload(&hub, "root", &root, true).await;
            assert!(by_certificate(&hub, id, &[&own, &intermediate]).await.is_ok(), "{id}");
            assert_eq!(by_certificate(&hub, id, &[&own]).await, Err(401_002), "a link is missing");
            assert_eq!(by_certificate(&hub, id, &[&others, &intermediate]).await, Err(401_002), "{other}");
        }
        // Nobody but the hub that the certificate was uploaded to trusts it, and only as long as it is there.
        let own = root.signs(leaf("dev1"));
        assert!(by_certificate(&hub, "dev1", &[&own]).await.is_ok());
        let second = hub.hubs.ensure(settings("second")).await.unwrap();
        let spec = DeviceSpec { authentication: by_authority, ..DeviceSpec::new("dev1".parse().unwrap()) };
        second.put_device(&system(), &spec, &base::IfMatch::Absent).await.unwrap();
        let elsewhere =
            second.authenticate_device_by_certificate(&"dev1".parse().unwrap(), &[&own.der]).await;
        assert_eq!(elsewhere.unwrap_err().error.code(), 401_002);
        let before =
            HubSettings { certificates: access::CaCertificates::default(), ..(*hub.settings()).clone() };
        hub.hubs.ensure(before).await.unwrap();
        assert!(by_certificate(&hub, "dev1", &[&own]).await.is_ok(), "other settings leave certificates");
        hub.change_certificates(|all, _| all.remove("root", &base::IfMatch::Any)).await.unwrap();
        assert_eq!(by_certificate(&hub, "dev1", &[&own]).await, Err(401_002));
    }

    #[tokio::test]
    async fn a_certificate_counts_while_it_is_valid_by_the_servers_clock() {
        let hub = TestHub::with_device("dev1").await;
        let by_authority = AuthenticationSpec {
            kind: Some(AuthenticationKind::CertificateAuthority),
            ..AuthenticationSpec::default()
        };
        register(&hub, "dev1", by_authority).await;
        let root = Certified::own(authority("root"));
        upload(&hub, "root", &root, true).await;
        let until = date_time_ymd(2026, 1, 3);
        let own = root.signs(with(leaf("dev1"), |params| params.not_after = until));
        assert!(by_certificate(&hub, "dev1", &[&own]).await.is_ok());
        hub.clock.advance(Duration::from_hours(24));
        assert_eq!(by_certificate(&hub, "dev1", &[&own]).await, Err(401_002));
    }

    #[tokio::test]
    async fn a_service_needs_a_policys_key_a_live_token_and_this_hub() {
        let hub = TestHub::with_device("dev1").await;
        let policy = hub.settings().policy("service").unwrap().clone();
        let check = |token: &SasToken, host: &str| {
            hub.authenticate_service(host, "twins/dev1", token)
                .map(drop)
                .map_err(|refused| refused.error.code())
        };
        for key in [&policy.primary_key, &policy.secondary_key] {
            let token = hub.token(HOST, key, Some("service"));
            assert_eq!(check(&token, HOST), Ok(()));
            assert_eq!(check(&token, "HUB.azure-devices.localhost:8443"), Ok(()));
        }
        let key = &policy.primary_key;
        let refused = [
            hub.token(HOST, &Key::generate(32), Some("service")),
            hub.token(HOST, key, Some("iothubowner")),
            hub.token(HOST, key, Some("nobody")),
            hub.token(HOST, key, None),
            hub.token("other.azure-devices.localhost", key, Some("service")),
            hub.token(&format!("{HOST}/devices"), key, Some("service")),
        ];
        for token in refused {
            assert_eq!(check(&token, HOST), Err(401_002), "{token:?}");
        }
        let old = sas::build(HOST, key, hub.clock.now().minus(Duration::from_secs(301)), Some("service"));
        assert_eq!(check(&SasToken::parse(&old).unwrap(), HOST), Err(401_002));
        let [device_key, _] = keys(&hub.stored("dev1").await);
        assert_eq!(check(&hub.token(HOST, &device_key, None), HOST), Err(401_002));

        let second = hub.hubs.ensure(settings("second")).await.unwrap();
        let foreign = hub.token("second.azure-devices.localhost", key, Some("service"));
        assert!(second.authenticate_service("second.azure-devices.localhost", "", &foreign).is_err());
        assert_eq!(
            check(&foreign, "second.azure-devices.localhost"),
            Err(401_002),
            "the names of others are not ours"
        );
    }

    #[tokio::test]
    async fn a_cloud_name_that_was_pointed_here_is_a_good_audience() {
        let hub = TestHub::with_device("dev1").await;
        let [key, _] = keys(&hub.stored("dev1").await);
        let token = hub.token("myhub.azure-devices.net/devices/dev1", &key, None);
        let id = "dev1".parse().unwrap();
        assert!(hub.authenticate_device("myhub.azure-devices.net", &id, &token).await.is_ok());
        assert!(hub.authenticate_device(HOST, &id, &token).await.is_err());
    }

    #[tokio::test]
    async fn policies_can_be_switched_off_and_changed() {
        let hub = TestHub::with_device("dev1").await;
        let policy = hub.settings().policy("service").unwrap().clone();
        let token = hub.token(HOST, &policy.primary_key, Some("service"));
        let mut changed = (*hub.settings()).clone();
        changed.disable_local_auth = true;
        hub.hubs.ensure(changed.clone()).await.unwrap();
        assert!(hub.authenticate_service(HOST, "", &token).is_err());
        changed.disable_local_auth = false;
        hub.hubs.ensure(changed.clone()).await.unwrap();
        assert!(hub.authenticate_service(HOST, "", &token).is_ok());
        changed.policies.retain(|policy| policy.key_name != "service");
        hub.hubs.ensure(changed).await.unwrap();
        assert!(hub.authenticate_service(HOST, "", &token).is_err());
    }
}
