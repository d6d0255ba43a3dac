//! The client of storage accounts against Azurite, which `cargo xtask conform` starts and names in `CONFORM_STORAGE`.

#![allow(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::path::PathBuf;
use std::time::Duration;

use base::{Clock, ConnectionString};
use bytes::Bytes;
use delivery::{Account, DeliveryError, ForeignStorage, Requests, Trust};
use hub::StorageEndpoint;
use hub::file_upload::{FileStorage, UploadedBlob};
use storage::{AccountAddress, BlobName, ContainerName};

const BODY: &[u8] = b"21 degrees";

#[tokio::test]
async fn what_is_put_with_either_credential_is_seen_listed_read_and_deleted() {
    let Ok(connection_string) = std::env::var("CONFORM_STORAGE") else {
        println!("skipped: CONFORM_STORAGE names no Azurite; `cargo xtask conform python` starts one");
        return;
    };
    let authority = PathBuf::from(std::env::var("CONFORM_STORAGE_CA").unwrap());
    let (requests, clock) = (Requests::new(Trust::of_file(&authority)), Clock::system());
    let address = AccountAddress::parse(&connection_string).unwrap();
    let container: ContainerName = "delivery".parse().unwrap();
    let blob: BlobName = "dev 1/a+b & <ü>.txt".parse().unwrap();
    let client = Account::new(&address, &requests, &clock);
    client.ensure_container(&container).await.unwrap();
    client.ensure_container(&container).await.unwrap();
    assert_eq!(client.has_container(&container).await, Ok(true));
    assert_eq!(client.has_container(&"nowhere".parse().unwrap()).await, Ok(false));

    let storage = ForeignStorage::new(requests.clone(), clock.clone());
    let at = StorageEndpoint {
        connection_string: ConnectionString::new(&*connection_string),
        container_name: container.to_string(),
        ttl: Duration::from_hours(1),
    };
    let grant = storage.grant(&at, blob.as_str(), clock.now().plus(at.ttl)).unwrap();
    let signature = grant.sas_token.strip_prefix('?').unwrap();
    let given = format!("BlobEndpoint=https://{}/;SharedAccessSignature={signature}", grant.host_name);
    let given = AccountAddress::parse(&given).unwrap();
    let device = Account::new(&given, &requests, &clock);
    device.put(&container, &blob, "text/plain", Bytes::from_static(BODY)).await.unwrap();
    let elsewhere = device.put(&container, &"dev 1/x".parse().unwrap(), "text/plain", Bytes::new()).await;
    assert!(matches!(elsewhere, Err(DeliveryError::Refused { status: 403, .. })), "{elsewhere:?}");

    let seen = storage.look(&at, blob.as_str()).await.unwrap();
    assert!(matches!(seen, Some(UploadedBlob { size_bytes: 10, .. })), "{seen:?}");
    client.put(&container, &"dev 2".parse().unwrap(), "text/plain", Bytes::new()).await.unwrap();
    let listed = client.list(&container, "dev 1/", None).await.unwrap();
    assert_eq!((listed.names, listed.next_marker), (vec![blob.to_string()], None));
    assert_eq!(client.get(&container, &blob).await, Ok(Some(Bytes::from_static(BODY))));
    assert_eq!(client.delete(&container, &blob).await, Ok(true));
    assert_eq!(client.delete(&container, &blob).await, Ok(false));
    assert_eq!(storage.look(&at, blob.as_str()).await, Ok(None));
}
