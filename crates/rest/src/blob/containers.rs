//! Containers, the service itself, and lists, on the wire.

use base::caps;
use storage::block_list::InvalidBlockList;
use storage::{BlobPage, ContainerName, ContainerPage, Found, FoundContainer, Listing, Metadata};

use super::error::Refusal;
use super::xml::Xml;
use super::{Asked, Outcome, headers};
use crate::body::{self, RequestBody};
use crate::wire::Response;

const XML: &str = "application/xml";

pub(super) async fn create(asked: &Asked<'_>, name: &ContainerName) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    if head.header("x-ms-blob-public-access").is_some() {
        return Err(storage::Error::PublicAccessNotPermitted.into());
    }
    let made = account.create_container(caller, name, headers::metadata(head)?).await?;
    Ok(headers::container_tagged(201, &made))
}

pub(super) async fn get(asked: &Asked<'_>, name: &ContainerName) -> Outcome {
    let found = asked.account.get_container(asked.caller, name).await?;
    let response = headers::container_tagged(200, &found)
        .header("x-ms-lease-state", "available")
        .header("x-ms-lease-status", "unlocked")
        .header("x-ms-has-immutability-policy", "false")
        .header("x-ms-has-legal-hold", "false");
    Ok(headers::with_metadata(response, &found.container.metadata))
}

pub(super) async fn delete(asked: &Asked<'_>, name: &ContainerName) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    account.delete_container(caller, name, &headers::conditions(head)?).await?;
    Ok(Response::empty(202))
}

pub(super) async fn set_metadata(asked: &Asked<'_>, name: &ContainerName) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    let (metadata, conditions) = (headers::metadata(head)?, headers::conditions(head)?);
    let found = account.set_container_metadata(caller, name, &metadata, &conditions).await?;
    Ok(headers::container_tagged(200, &found))
}

pub(super) async fn get_policies(asked: &Asked<'_>, name: &ContainerName) -> Outcome {
    let found = asked.account.get_policies(asked.caller, name).await?;
    let mut xml = Xml::new();
    xml.within("SignedIdentifiers", |xml| {
        for policy in &found.container.policies {
            xml.within("SignedIdentifier", |xml| {
                xml.text("Id", &policy.id);
                xml.within("AccessPolicy", |xml| {
                    xml.maybe("Start", policy.start.map(base::Timestamp::iso7).as_deref());
                    xml.maybe("Expiry", policy.expiry.map(base::Timestamp::iso7).as_deref());
                    xml.maybe("Permission", policy.permissions.as_deref());
                });
            });
        }
    });
    let response = Response::bytes(200, XML, xml.end());
    Ok(headers::tagged(response, &found.etag, found.container.modified))
}

pub(super) async fn set_policies(
    asked: &Asked<'_>,
    name: &ContainerName,
    body: &mut dyn RequestBody,
) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    if head.header("x-ms-blob-public-access").is_some() {
        return Err(storage::Error::PublicAccessNotPermitted.into());
    }
    let document = body::read(body, caps::HTTP_BODY_BYTES_MAX).await?;
    let document = std::str::from_utf8(&document).map_err(|_| InvalidBlockList::Malformed)?;
    let found = account.set_policies(caller, name, document, &headers::conditions(head)?).await?;
    Ok(headers::container_tagged(200, &found))
}

fn listing(asked: &Asked<'_>) -> Result<Listing, Refusal> {
    let given = |name| asked.head.query(name).filter(|text: &&str| !text.is_empty()).map(str::to_owned);
    let most = given("maxresults").map(|text| text.parse::<usize>()).transpose();
    let most = most.ok().filter(|most| *most != Some(0)).ok_or(Refusal::Parameter("maxresults"))?;
    Ok(Listing {
        prefix: given("prefix").unwrap_or_default(),
        delimiter: given("delimiter"),
        marker: given("marker"),
        most,
    })
}

fn includes(asked: &Asked<'_>, what: &str) -> bool {
    let asked_for = asked.head.query_all("include").flat_map(|text| text.split(','));
    asked_for.into_iter().any(|one| one.trim().eq_ignore_ascii_case(what))
}

pub(super) async fn list_blobs(asked: &Asked<'_>, name: &ContainerName) -> Outcome {
    let listing = listing(asked)?;
    let page = asked.account.list_blobs(asked.caller, name, &listing).await?;
    let (endpoint, has_metadata) = (asked.endpoint(), includes(asked, "metadata"));
    let mut xml = Xml::new();
    let attributes = [("ServiceEndpoint", endpoint.as_str()), ("ContainerName", name.as_str())];
    xml.with("EnumerationResults", &attributes, |xml| {
        beginning(xml, &listing);
        xml.maybe("Delimiter", listing.delimiter.as_deref());
        xml.within("Blobs", |xml| entries(xml, &page, has_metadata));
        xml.text("NextMarker", page.next.as_deref().unwrap_or_default());
    });
    Ok(Response::bytes(200, XML, xml.end()))
}

fn beginning(xml: &mut Xml, listing: &Listing) {
    xml.text("Prefix", &listing.prefix);
    xml.text("Marker", listing.marker.as_deref().unwrap_or_default());
    xml.text("MaxResults", &listing.most.unwrap_or(caps::BLOB_LIST_MAX).min(caps::BLOB_LIST_MAX).to_string());
}

/// Blobs and common beginnings, in one order.
fn entries(xml: &mut Xml, page: &BlobPage, has_metadata: bool) {
    let mut prefixes = page.prefixes.iter().peekable();
    let prefix = |xml: &mut Xml, prefix: &str| xml.within("BlobPrefix", |xml| xml.text("Name", prefix));
    for found in &page.blobs {
        while let Some(before) = prefixes.next_if(|prefix| prefix.as_str() < found.blob.name.as_str()) {
            prefix(xml, before);
        }
        xml.within("Blob", |xml| blob(xml, found, has_metadata));
    }
    prefixes.for_each(|last| prefix(xml, last));
}

fn blob(xml: &mut Xml, found: &Found, has_metadata: bool) {
    let Found { blob, etag } = found;
    xml.text("Name", blob.name.as_str());
    xml.within("Properties", |xml| {
        let headers = &blob.headers;
        xml.text("Creation-Time", &blob.created.rfc1123());
        xml.text("Last-Modified", &blob.modified.rfc1123());
        xml.text("Etag", etag);
        xml.text("Content-Length", &blob.length.to_string());
        xml.text("Content-Type", headers.content_type.as_deref().unwrap_or("application/octet-stream"));
        xml.text("Content-Encoding", headers.content_encoding.as_deref().unwrap_or_default());
        xml.text("Content-Language", headers.content_language.as_deref().unwrap_or_default());
        xml.text("Content-MD5", headers.content_md5.as_deref().unwrap_or_default());
        xml.text("Cache-Control", headers.cache_control.as_deref().unwrap_or_default());
        xml.text("Content-Disposition", headers.content_disposition.as_deref().unwrap_or_default());
        xml.text("BlobType", blob.kind.name());
        if blob.kind == storage::BlobKind::Block {
            xml.text("AccessTier", "Hot");
            xml.text("AccessTierInferred", "true");
        }
        xml.text("LeaseStatus", "unlocked");
        xml.text("LeaseState", "available");
        xml.text("ServerEncrypted", "true");
    });
    if has_metadata {
        metadata(xml, &blob.metadata);
    }
}

fn metadata(xml: &mut Xml, metadata: &Metadata) {
    xml.within("Metadata", |xml| metadata.iter().for_each(|(name, value)| xml.text(name, value)));
}

pub(super) async fn list(asked: &Asked<'_>) -> Outcome {
    let listing = listing(asked)?;
    let ContainerPage { containers, next } = asked.account.list_containers(asked.caller, &listing).await?;
    let (endpoint, has_metadata) = (asked.endpoint(), includes(asked, "metadata"));
    let mut xml = Xml::new();
    xml.with("EnumerationResults", &[("ServiceEndpoint", &endpoint)], |xml| {
        beginning(xml, &listing);
        xml.within("Containers", |xml| {
            for FoundContainer { container, etag } in &containers {
                xml.within("Container", |xml| {
                    xml.text("Name", container.name.as_str());
                    xml.within("Properties", |xml| {
                        xml.text("Last-Modified", &container.modified.rfc1123());
                        // Of containers the tag is quoted, and of blobs it is not.
                        xml.text("Etag", &format!("\"{etag}\""));
                        xml.text("LeaseStatus", "unlocked");
                        xml.text("LeaseState", "available");
                        xml.text("HasImmutabilityPolicy", "false");
                        xml.text("HasLegalHold", "false");
                    });
                    if has_metadata {
                        metadata(xml, &container.metadata);
                    }
                });
            }
        });
        xml.text("NextMarker", next.as_deref().unwrap_or_default());
    });
    Ok(Response::bytes(200, XML, xml.end()))
}

/// What an account has that nobody has changed; it cannot be changed here.
pub(super) fn service_properties(asked: &Asked<'_>) -> Outcome {
    asked.require_key()?;
    let mut xml = Xml::new();
    xml.within("StorageServiceProperties", |xml| {
        let retention = |xml: &mut Xml| xml.within("RetentionPolicy", |xml| xml.text("Enabled", "false"));
        xml.within("Logging", |xml| {
            for (name, value) in
                [("Version", "1.0"), ("Read", "false"), ("Write", "false"), ("Delete", "false")]
            {
                xml.text(name, value);
            }
            retention(xml);
        });
        for name in ["HourMetrics", "MinuteMetrics"] {
            xml.within(name, |xml| {
                xml.text("Version", "1.0");
                xml.text("Enabled", "false");
                retention(xml);
            });
        }
        xml.text("Cors", "");
        xml.within("DeleteRetentionPolicy", |xml| xml.text("Enabled", "false"));
        xml.within("StaticWebsite", |xml| xml.text("Enabled", "false"));
    });
    Ok(Response::bytes(200, XML, xml.end()))
}

pub(super) fn account_properties() -> Response {
    Response::empty(200)
        .header("x-ms-sku-name", "Standard_LRS")
        .header("x-ms-account-kind", "StorageV2")
        .header("x-ms-is-hns-enabled", "false")
}
