//! What a hub's sections `storageEndpoints`, `messagingEndpoints` and `enableFileUploadNotifications` say of files that devices upload
//! (`iothub-service.md` §15). They are shown as they were sent, with the account's key masked.

use std::ops::RangeInclusive;
use std::time::Duration;

use base::ConnectionString;
use base::caps::{FILE_UPLOAD_SECONDS_MAX, FILE_UPLOAD_SECONDS_MIN};
use hub::{FileUpload, StorageEndpoint};
use serde_json::{Map, Value};
use storage::{AccountAddress, ContainerName, Credential};

use super::record::Properties;
use super::section::Section;
use crate::error::Error;

const STORAGE: &str = "storageEndpoints";
/// The one account that a hub may have.
const DEFAULT: &str = "$default";
const UPLOAD_SECONDS: RangeInclusive<u64> = FILE_UPLOAD_SECONDS_MIN..=FILE_UPLOAD_SECONDS_MAX;
const UPLOAD_DEFAULT: Duration = Duration::from_hours(1);

impl Properties {
    /// What the sections say; where they say nothing, what a new hub has.
    pub fn file_upload(&self) -> FileUpload {
        // They were refused when they were put, if they could be.
        read(&self.sections).unwrap_or_default()
    }
}

/// Refuses sections that no hub would take.
pub(super) fn check(sections: &Map<String, Value>) -> Result<(), Error> {
    read(sections).map(drop)
}

fn read(sections: &Map<String, Value>) -> Result<FileUpload, Error> {
    let notifications = Section::of(sections, "messagingEndpoints").below("fileNotifications").queue()?;
    let is_notified = match sections.get("enableFileUploadNotifications") {
        None | Some(Value::Null) => false,
        Some(value) => value.as_bool().ok_or_else(|| {
            Error::bad_request("The property 'enableFileUploadNotifications' must be true or false.")
        })?,
    };
    Ok(FileUpload { storage: storage(sections)?, is_notified, notifications })
}

fn storage(sections: &Map<String, Value>) -> Result<Option<StorageEndpoint>, Error> {
    let all = sections.get(STORAGE).and_then(Value::as_object);
    if all.is_some_and(|all| all.keys().any(|name| name != DEFAULT)) {
        return Err(Error::bad_request(format!(
            "The property '{STORAGE}' may have the one member '{DEFAULT}'."
        )));
    }
    let endpoint = Section::of(sections, STORAGE).below(DEFAULT);
    let path = &endpoint.path;
    let ttl = endpoint.duration("sasTtlAsIso8601", UPLOAD_DEFAULT, UPLOAD_SECONDS)?;
    let kind = endpoint.text("authenticationType")?.unwrap_or("keyBased");
    if !kind.eq_ignore_ascii_case("keyBased") {
        return Err(Error::bad_request(format!(
            "The property '{path}.authenticationType' must be 'keyBased': this server signs uploads with an account's key."
        )));
    }
    let (opens, container) = (endpoint.text("connectionString")?, endpoint.text("containerName")?);
    let (opens, container) = match (opens, container) {
        (None, None) => return Ok(None),
        (Some(opens), Some(container)) => (opens, container),
        _ => {
            return Err(Error::bad_request(format!(
                "The properties '{path}.connectionString' and '{path}.containerName' go together."
            )));
        }
    };
    let account = AccountAddress::parse(opens).map_err(|why| {
        Error::bad_request(format!("The property '{path}.connectionString' names no storage account: {why}."))
    })?;
    if !matches!(account.credential, Credential::Key(_)) {
        return Err(Error::bad_request(format!(
            "The property '{path}.connectionString' must have an AccountKey, with which uploads are signed."
        )));
    }
    container.parse::<ContainerName>().map_err(|why| {
        Error::bad_request(format!("The property '{path}.containerName' is no name of a container: {why}"))
    })?;
    let connection_string = ConnectionString::new(opens);
    Ok(Some(StorageEndpoint { connection_string, container_name: container.to_owned(), ttl }))
}

#[cfg(test)]
mod tests {
    use hub::ServiceBoundQueue;
    use serde_json::json;

    use super::*;

    const OPENS: &str = "AccountName=acct;AccountKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn of(sections: &Value) -> Result<FileUpload, Error> {
        read(sections.as_object().unwrap())
    }

    #[test]
    fn a_new_hub_has_no_storage_and_one_that_has_signs_for_an_hour() {
        let new = super::super::rules::default_sections();
        assert_eq!(read(&new).unwrap(), FileUpload::default());
        let set = of(&json!({
            "storageEndpoints": {"$default": {"connectionString": OPENS, "containerName": "files"}},
            "enableFileUploadNotifications": true,
            "messagingEndpoints": {"fileNotifications": {"maxDeliveryCount": 3}},
        }))
        .unwrap();
        let storage = set.storage.unwrap();
        assert_eq!((&*storage.container_name, storage.ttl), ("files", Duration::from_hours(1)));
        assert_eq!(storage.connection_string.expose(), OPENS);
        let expected = ServiceBoundQueue { max_delivery_count: 3, ..ServiceBoundQueue::default() };
        assert_eq!((set.is_notified, set.notifications), (true, expected));
    }

    #[test]
    fn what_no_hub_takes_is_refused_by_name() {
        let endpoint = |member: Value| json!({"storageEndpoints": {"$default": member}});
        for (sections, told) in [
            (json!({"storageEndpoints": {"other": {}}}), "'storageEndpoints'"),
            (endpoint(json!({"connectionString": OPENS})), "'storageEndpoints.$default.containerName'"),
            (endpoint(json!({"containerName": "files"})), "'storageEndpoints.$default.connectionString'"),
            (
                endpoint(json!({"connectionString": "x", "containerName": "files"})),
                "'storageEndpoints.$default.connectionString'",
            ),
            (
                endpoint(json!({"connectionString": OPENS.replace("acct", "A"), "containerName": "files"})),
                "AccountName",
            ),
            (
                endpoint(
                    json!({"connectionString": "BlobEndpoint=https://acct.x;SharedAccessSignature=sig=a", "containerName": "files"}),
                ),
                "AccountKey",
            ),
            (
                endpoint(json!({"connectionString": OPENS, "containerName": "No"})),
                "'storageEndpoints.$default.containerName'",
            ),
            (
                endpoint(json!({"connectionString": OPENS, "containerName": 1})),
                "'storageEndpoints.$default.containerName'",
            ),
            (endpoint(json!({"sasTtlAsIso8601": "PT59S"})), "'storageEndpoints.$default.sasTtlAsIso8601'"),
            (endpoint(json!({"sasTtlAsIso8601": "P1DT1S"})), "'storageEndpoints.$default.sasTtlAsIso8601'"),
            (
                endpoint(json!({"authenticationType": "identityBased"})),
                "'storageEndpoints.$default.authenticationType'",
            ),
            (json!({"enableFileUploadNotifications": "yes"}), "'enableFileUploadNotifications'"),
            (
                json!({"messagingEndpoints": {"fileNotifications": {"lockDurationAsIso8601": "PT4S"}}}),
                "'messagingEndpoints.fileNotifications.lockDurationAsIso8601'",
            ),
            (
                json!({"messagingEndpoints": {"fileNotifications": {"maxDeliveryCount": 101}}}),
                "'messagingEndpoints.fileNotifications.maxDeliveryCount'",
            ),
        ] {
            let refused = of(&sections).unwrap_err().to_string();
            assert!(refused.contains(told), "{refused}");
        }
    }
}
