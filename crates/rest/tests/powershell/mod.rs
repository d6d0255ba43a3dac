//! The cmdlet `Set-AzIoTDeviceProvisioningServiceEnrollment`, played request by request (`dps.md` §6.1, §6.2): what it asks, how
//! it edits, what the .NET SDK under it writes back.

#![allow(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use base::{Key, sas};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::cloud::{Cloud, DPS, GROUP, SUBSCRIPTION, service_path};

/// The .NET service SDK asks for this version.
pub(crate) const VERSION: &str = "2019-03-31";
pub(crate) const ID: &str = "enroll1";

/// The three parameter sets.
#[derive(Clone, Debug)]
pub(crate) enum By {
    Name {
        group: String,
        dps: String,
    },
    /// What an earlier cmdlet got from Resource Manager.
    Object(Value),
    ResourceId(String),
}

/// One call of the cmdlet. A parameter that is not bound changes nothing.
#[derive(Default)]
pub(crate) struct Set {
    pub(crate) by: Option<By>,
    pub(crate) registration_id: Option<&'static str>,
    pub(crate) device_id: Option<&'static str>,
    pub(crate) provisioning_status: Option<&'static str>,
    pub(crate) tag: Option<Value>,
    pub(crate) desired: Option<Value>,
    pub(crate) edge_enabled: Option<bool>,
    pub(crate) reprovision_policy: Option<&'static str>,
    pub(crate) allocation_policy: Option<&'static str>,
    pub(crate) iot_hub_host_name: Option<&'static str>,
    pub(crate) iot_hub: Option<Vec<&'static str>>,
    pub(crate) webhook_url: Option<&'static str>,
    pub(crate) api_version: Option<&'static str>,
    pub(crate) endorsement_key: Option<String>,
    pub(crate) storage_root_key: Option<String>,
    pub(crate) primary_key: Option<String>,
    pub(crate) secondary_key: Option<String>,
    pub(crate) primary_certificate: Option<String>,
    pub(crate) secondary_certificate: Option<String>,
    pub(crate) primary_ca_name: Option<&'static str>,
    pub(crate) secondary_ca_name: Option<&'static str>,
    pub(crate) root_certificate: bool,
    /// The token of the account that the profile stands for; the owner's where none is named.
    pub(crate) default_profile: Option<String>,
    pub(crate) what_if: bool,
    /// What the user answers when asked whether to go ahead.
    pub(crate) confirm: Option<bool>,
}

/// The status and reason phrase that the SDK throws on, or the cmdlet's own complaint.
pub(crate) type Failure = String;

impl Set {
    pub(crate) async fn run(self, cloud: &Cloud) -> Result<Value, Failure> {
        if self.what_if || self.confirm == Some(false) {
            return Ok(Value::Null);
        }
        let by = self.by.clone().unwrap_or(By::Name { group: GROUP.to_owned(), dps: DPS.to_owned() });
        let profile = self.default_profile.as_ref().unwrap_or(&cloud.token);
        let sdk = Sdk::signed_in(cloud, by, profile).await?;
        let id = self.registration_id.unwrap_or(ID);
        let mut enrollment = sdk.get(cloud, id).await?;
        self.edit(&mut enrollment)?;
        sdk.put(cloud, id, &enrollment).await
    }

    fn edit(&self, enrollment: &mut Map<String, Value>) -> Result<(), Failure> {
        if let Some(status) = self.provisioning_status {
            enrollment.insert("provisioningStatus".into(), json!(status.to_ascii_lowercase()));
        }
        if let Some(device_id) = self.device_id {
            enrollment.insert("deviceId".into(), json!(device_id));
        }
        if self.tag.is_some() || self.desired.is_some() {
            let old = enrollment.get("initialTwin").cloned().unwrap_or_default();
            let kept = |pointer| old.pointer(pointer).cloned().unwrap_or_else(|| json!({}));
            let tags = self.tag.clone().unwrap_or_else(|| kept("/tags"));
            let desired = self.desired.clone().unwrap_or_else(|| kept("/properties/desired"));
            enrollment
                .insert("initialTwin".into(), json!({"tags": tags, "properties": {"desired": desired}}));
        }
        if let Some(edge) = self.edge_enabled {
            enrollment.insert("capabilities".into(), json!({"iotEdge": edge}));
        }
        if let Some(policy) = self.reprovision_policy {
            let (update, migrate) = match policy {
                "reprovisionandmigratedata" => (true, true),
                "reprovisionandresetdata" => (true, false),
                _ => (false, false),
            };
            let policy = json!({"updateHubAssignment": update, "migrateDeviceData": migrate});
            enrollment.insert("reprovisionPolicy".into(), policy);
        }
        self.edit_allocation(enrollment)?;
        self.edit_attestation(enrollment)
    }

    /// The policy that counts is the given one, else the stored one; whatever does not belong to it is cleared.
    fn edit_allocation(&self, enrollment: &mut Map<String, Value>) -> Result<(), Failure> {
        if let Some(host) = self.iot_hub_host_name {
            if self.allocation_policy.is_some() {
                return Err("\"IotHubHostName\" is not required when allocation-policy is defined.".into());
            }
            if self.iot_hub.is_some() {
                return Err("\"IotHubHostName\" is not required when IotHub is defined.".into());
            }
            enrollment.insert("iotHubHostName".into(), json!(host));
            for cleared in ["customAllocationDefinition", "allocationPolicy", "iotHubs"] {
                enrollment.shift_remove(cleared);
            }
        }
        if let Some(policy) = self.allocation_policy {
            // The members of the SDK's enumeration have names of their own on the wire.
            let wire = if policy == "GeoLatency" { "geoLatency".into() } else { policy.to_ascii_lowercase() };
            enrollment.insert("allocationPolicy".into(), json!(wire));
        }
        let policy =
            enrollment.get("allocationPolicy").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(hubs) = &self.iot_hub {
            match policy.as_str() {
                "" => return Err("Please provide allocation policy.".into()),
                "static" if hubs.len() > 1 => {
                    return Err(
                        "Please provide only one hub when allocation-policy is defined as Static.".into()
                    );
                }
                _ => drop(enrollment.insert("iotHubs".into(), json!(hubs))),
            }
        }
        match policy.as_str() {
            "" => {}
            "custom" => {
                let stored = enrollment.get("customAllocationDefinition").cloned().unwrap_or_default();
                let text =
                    |given: Option<&str>, name: &str| given.map_or_else(|| stored[name].clone(), Value::from);
                let definition = json!({"webhookUrl": text(self.webhook_url, "webhookUrl"),
                    "apiVersion": text(self.api_version, "apiVersion")});
                enrollment.insert("customAllocationDefinition".into(), definition);
                enrollment.shift_remove("iotHubHostName");
            }
            _ => {
                enrollment.shift_remove("customAllocationDefinition");
                enrollment.shift_remove("iotHubHostName");
            }
        }
        Ok(())
    }

    /// Set never changes the kind of attestation; parameters of another kind are ignored.
    fn edit_attestation(&self, enrollment: &mut Map<String, Value>) -> Result<(), Failure> {
        let attestation = &mut enrollment["attestation"];
        match attestation["type"].as_str().unwrap() {
            "symmetricKey" => {
                for (name, key) in [("primaryKey", &self.primary_key), ("secondaryKey", &self.secondary_key)]
                {
                    if let Some(key) = key {
                        attestation["symmetricKey"][name] = json!(key);
                    }
                }
            }
            "tpm" => {
                let given =
                    [("endorsementKey", &self.endorsement_key), ("storageRootKey", &self.storage_root_key)];
                for (name, key) in given {
                    if let Some(key) = key {
                        attestation["tpm"][name] = json!(key);
                    }
                }
            }
            "x509" if self.primary_ca_name.is_some() || self.secondary_ca_name.is_some() => {
                let stored = &attestation["x509"]["caReferences"];
                let name = |given: Option<&str>, which: &str| {
                    given.map_or_else(|| stored[which].clone(), Value::from)
                };
                let mut pair = Map::new();
                for (which, given) in
                    [("primary", self.primary_ca_name), ("secondary", self.secondary_ca_name)]
                {
                    let name = name(given, which);
                    if !name.is_null() {
                        pair.insert(which.into(), name);
                    }
                }
                attestation["x509"] = json!({"caReferences": pair});
            }
            "x509" => {
                if self.primary_certificate.is_none() && self.secondary_certificate.is_some() {
                    return Err("Primary certificate cannot be null or empty.".into());
                }
                if self.root_certificate && self.primary_certificate.is_some() {
                    // The SDK takes client certificates or references of a single device, and nothing else.
                    return Err("Attestation shall be X509 CA references or client certificates".into());
                }
                if let Some(primary) = &self.primary_certificate {
                    let mut pair = json!({"primary": {"certificate": certificate_text(primary)}});
                    if let Some(secondary) = &self.secondary_certificate {
                        pair["secondary"] = json!({"certificate": certificate_text(secondary)});
                    }
                    attestation["x509"] = json!({"clientCertificates": pair});
                }
            }
            other => panic!("an attestation of type {other}"),
        }
        Ok(())
    }
}

/// What the module makes of its certificate arguments: a file's text, a file's bytes, or the argument itself.
pub(crate) fn certificate_text(argument: &str) -> String {
    let read = |path: &str| std::fs::read(path).unwrap();
    match argument.rsplit_once('.').map(|(_, extension)| extension) {
        Some("pem") => String::from_utf8(read(argument)).unwrap(),
        Some("cer") => {
            let bytes = read(argument);
            let is_pem = bytes.starts_with(b"-----BEGIN CERTIFICATE-----");
            if is_pem { String::from_utf8(bytes).unwrap() } else { STANDARD.encode(bytes) }
        }
        _ => argument.to_owned(),
    }
}

/// The .NET service client that the cmdlet makes of what Resource Manager told it.
pub(crate) struct Sdk {
    pub(crate) host: String,
    pub(crate) token: String,
}

impl Sdk {
    pub(crate) async fn of(cloud: &Cloud, by: By) -> Result<Self, Failure> {
        Self::signed_in(cloud, by, &cloud.token).await
    }

    async fn signed_in(cloud: &Cloud, by: By, profile: &str) -> Result<Self, Failure> {
        let manage = async |method: &str, path: &str| {
            let response = cloud.manage_as(profile, method, path, &Value::Null).await;
            if response.status.is_success() {
                Ok(response.body_json())
            } else {
                Err(response.status.to_string())
            }
        };
        let (group, dps, resource) = match by {
            By::Name { group, dps } => (group, dps, None),
            By::Object(object) => {
                let name = object["name"].as_str().unwrap().to_owned();
                (object["resourcegroup"].as_str().unwrap().to_owned(), name, Some(object))
            }
            By::ResourceId(id) => {
                (between(&id, "/resourcegroups/"), between(&id, "/provisioningServices/"), None)
            }
        };
        assert!(group.eq_ignore_ascii_case(GROUP), "{group}");
        let resource = match resource {
            Some(object) => object,
            None => manage("GET", &service_path(&dps)).await?,
        };
        let keys = manage("POST", &format!("{}/listkeys", service_path(&dps))).await?;
        let may_write = |key: &&Value| key["rights"].as_str().unwrap().contains("EnrollmentWrite");
        let policy = keys["value"].as_array().unwrap().iter().find(may_write);
        let policy = policy.ok_or("Missing shared access policy for EnrollmentWrite permission.")?;
        let host = resource["properties"]["serviceOperationsHostName"].as_str().unwrap().to_owned();
        let key: Key = policy["primaryKey"].as_str().unwrap().parse().unwrap();
        let token = sas::build(&host, &key, cloud.in_an_hour(), policy["keyName"].as_str());
        Ok(Self { host, token })
    }

    pub(crate) async fn get(&self, cloud: &Cloud, id: &str) -> Result<Map<String, Value>, Failure> {
        Ok(held(self.send(cloud, "GET", id, &[], &Value::Null).await?))
    }

    /// The etag goes into `If-Match` as it stands in the body, quotes and all.
    pub(crate) async fn put(
        &self,
        cloud: &Cloud,
        id: &str,
        enrollment: &Map<String, Value>,
    ) -> Result<Value, Failure> {
        let etag = enrollment["etag"].as_str().unwrap().to_owned();
        let body = Value::Object(enrollment.clone());
        self.send(cloud, "PUT", id, &[("if-match", &etag)], &body).await
    }

    async fn send(
        &self,
        cloud: &Cloud,
        method: &str,
        id: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, Failure> {
        let path = format!("/enrollments/{id}?api-version={VERSION}");
        let mut all = vec![("authorization", self.token.as_str()), ("accept", "application/json")];
        all.extend_from_slice(headers);
        let response = cloud.send(method, &self.host, &path, &all, body).await;
        if response.status.as_u16() >= 300 {
            // The SDK's message is made of the standard reason phrase.
            return Err(response.status.to_string());
        }
        Ok(response.body_json())
    }
}

pub(crate) fn between(id: &str, mark: &str) -> String {
    let at = id.to_ascii_lowercase().find(&mark.to_ascii_lowercase()).unwrap() + mark.len();
    id[at..].split('/').next().unwrap().to_owned()
}

/// The enrollment as the SDK holds it and writes it back: its read-only members come along, nulls do not, and keys that were
/// not shown are empty texts.
pub(crate) fn held(shown: Value) -> Map<String, Value> {
    let Value::Object(mut enrollment) = shown else { panic!("{shown}") };
    enrollment.retain(|_, value| !value.is_null());
    let attestation = &mut enrollment["attestation"];
    if attestation["type"] == "symmetricKey" && attestation.get("symmetricKey").is_none() {
        attestation["symmetricKey"] = json!({"primaryKey": "", "secondaryKey": ""});
    }
    enrollment
}

/// A server with the enrollment `enroll1`, and what it looks like to its owner.
pub(crate) struct Test {
    pub(crate) cloud: Cloud,
    pub(crate) sdk: Sdk,
}

impl Test {
    /// With an enrollment by symmetric key, changed by `change`.
    pub(crate) async fn with(change: impl FnOnce(&mut Value)) -> Self {
        let cloud = Cloud::new().await;
        let by = By::Name { group: GROUP.to_owned(), dps: DPS.to_owned() };
        let sdk = Sdk::of(&cloud, by).await.unwrap();
        // As `Add-AzIoTDeviceProvisioningServiceEnrollment` sends it.
        let mut body = json!({
            "registrationId": ID,
            "attestation": {"type": "symmetricKey", "symmetricKey": {}},
            "initialTwin": {"tags": {}, "properties": {"desired": {}}},
            "capabilities": {"iotEdge": false},
            "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": true},
        });
        change(&mut body);
        sdk.send(&cloud, "PUT", ID, &[], &body).await.unwrap();
        cloud.take_requests();
        cloud.clock.advance(std::time::Duration::from_mins(1));
        Self { cloud, sdk }
    }

    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn shown(&self) -> Value {
        let mut shown = self.sdk.send(&self.cloud, "GET", ID, &[], &Value::Null).await.unwrap();
        let path = format!("/enrollments/{ID}/attestationmechanism?api-version={VERSION}");
        let headers = [("authorization", self.sdk.token.as_str())];
        let keys = self.cloud.send("POST", &self.sdk.host, &path, &headers, &Value::Null).await;
        shown["attestation"] = keys.body_json();
        self.cloud.take_requests();
        shown
    }

    /// Runs the cmdlet: it must send its own sequence, and change what `change` says and nothing else.
    pub(crate) async fn sets(&self, set: Set, change: impl FnOnce(&mut Value)) -> Value {
        let mut expected = self.shown().await;
        let by = set.by.clone();
        let answer = set.run(&self.cloud).await.unwrap();
        assert_eq!(self.cloud.take_requests(), sequence(by.as_ref()));
        change(&mut expected);
        let found = self.shown().await;
        for stamp in ["etag", "lastUpdatedDateTimeUtc"] {
            assert_ne!(found[stamp], expected[stamp], "{stamp}");
            expected[stamp] = found[stamp].clone();
        }
        assert_eq!(found, expected);
        assert_eq!(answer, found, "what was put is what is found, keys included");
        found
    }

    /// Runs the cmdlet, which must fail with `failure` and change nothing.
    pub(crate) async fn refuses(&self, set: Set, failure: &str) {
        let before = self.shown().await;
        assert_eq!(set.run(&self.cloud).await, Err(failure.to_owned()));
        assert_eq!(self.shown().await, before);
    }
}

pub(crate) fn resource_id() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}{}", service_path(DPS))
}

/// What the cmdlet sends, in this order. An object needs no look-up.
pub(crate) fn sequence(by: Option<&By>) -> Vec<String> {
    let mut requests = vec![
        format!("GET {}", resource_id()),
        format!("POST {}/listkeys", resource_id()),
        format!("GET /enrollments/{ID}"),
        format!("PUT /enrollments/{ID}"),
    ];
    if matches!(by, Some(By::Object(_))) {
        requests.remove(0);
    }
    requests
}

pub(crate) fn remove(value: &mut Value, name: &str) {
    value.as_object_mut().unwrap().shift_remove(name);
}

pub(crate) fn pem(name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    parameters.self_signed(&key).unwrap().pem()
}

/// Base64 of DER, the form in which certificates are shown.
pub(crate) fn bare(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

pub(crate) fn x509(body: &mut Value) {
    body["attestation"] = json!({"type": "x509", "x509": {"clientCertificates": {
        "primary": {"certificate": pem("first")}, "secondary": {"certificate": pem("second")}}}});
}

pub(crate) fn subject(shown: &Value, which: &str) -> Value {
    shown["attestation"]["x509"]["clientCertificates"][which]["info"]["subjectName"].clone()
}
