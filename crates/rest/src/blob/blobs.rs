//! Blobs on the wire: a handler parses, calls one operation and writes its answer. Bodies go to and come from the account in parts.

use base::caps;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use storage::block_list::{self, BlockId};
use storage::{At, BlobKind, NewBlob, Reader, Writer};

use super::error::Refusal;
use super::xml::Xml;
use super::{Asked, Outcome, headers};
use crate::body::{self, RequestBody};
use crate::wire::Response;

async fn receive(writer: &mut Writer<'_>, body: &mut dyn RequestBody) -> Result<(), Refusal> {
    while let Some(part) = body.next().await? {
        writer.write(part).await?;
    }
    Ok(())
}

/// Put Blob, and what shares its path with it.
pub(super) async fn put(asked: &Asked<'_>, at: At<'_>, body: &mut dyn RequestBody) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    if head.header("x-ms-copy-source").is_some() {
        return Err(Refusal::NotBuilt("Blob_StartCopyFromURL"));
    }
    let kind = match head.header("x-ms-blob-type") {
        Some("BlockBlob") => BlobKind::Block,
        Some("AppendBlob") => BlobKind::Append,
        Some("PageBlob") => return Err(Refusal::NotBuilt("PageBlob_Create")),
        Some(_) => return Err(Refusal::Header("x-ms-blob-type")),
        None => return Err(Refusal::MissingHeader("x-ms-blob-type")),
    };
    let headers = headers::blob_headers(head, true);
    let new = NewBlob { kind, headers, metadata: headers::metadata(head)? };
    let (conditions, md5) = (headers::conditions(head)?, headers::md5(head)?);
    let mut writer = account.receive_blob(caller, at, &conditions, headers::length(head)?).await?;
    receive(&mut writer, body).await?;
    let found = account.put_blob(caller, at, new, &conditions, writer, md5).await?;
    let sum = found.blob.headers.content_md5.clone().filter(|_| kind == BlobKind::Block);
    let response = headers::written(201, &found);
    Ok(match sum {
        Some(sum) => response.header("content-md5", &sum),
        None => response,
    })
}

pub(super) async fn put_block(asked: &Asked<'_>, at: At<'_>, body: &mut dyn RequestBody) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    if head.header("x-ms-copy-source").is_some() {
        return Err(Refusal::NotBuilt("BlockBlob_StageBlockFromURL"));
    }
    let id: BlockId = head.query("blockid").unwrap_or_default().replace(' ', "+").parse()?;
    let md5 = headers::md5(head)?;
    let mut writer = account.receive_block(caller, at, headers::length(head)?).await?;
    receive(&mut writer, body).await?;
    let sum = account.put_block(caller, at, &id, writer, md5).await?;
    Ok(Response::empty(201)
        .header("content-md5", &STANDARD.encode(sum))
        .header("x-ms-request-server-encrypted", "true"))
}

pub(super) async fn put_block_list(asked: &Asked<'_>, at: At<'_>, body: &mut dyn RequestBody) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    let conditions = headers::conditions(head)?;
    let document = body::read(body, caps::BLOCK_LIST_BYTES_MAX).await?;
    let document = std::str::from_utf8(&document).map_err(|_| block_list::InvalidBlockList::Malformed)?;
    let headers = headers::blob_headers(head, false);
    let new = NewBlob { kind: BlobKind::Block, headers, metadata: headers::metadata(head)? };
    let entries = block_list::parse(document)?;
    let found = account.put_block_list(caller, at, &entries, &new, &conditions).await?;
    Ok(headers::written(201, &found))
}

pub(super) async fn get_block_list(asked: &Asked<'_>, at: At<'_>) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    let wanted = head.query("blocklisttype").unwrap_or("committed").to_ascii_lowercase();
    let (wants_committed, wants_uncommitted) = match wanted.as_str() {
        "committed" => (true, false),
        "uncommitted" => (false, true),
        "all" => (true, true),
        _ => return Err(Refusal::Parameter("blocklisttype")),
    };
    let (found, lists) = account.get_block_lists(caller, at).await?;
    let mut xml = Xml::new();
    let blocks = |xml: &mut Xml, name: &str, blocks: &[(String, u64)]| {
        xml.within(name, |xml| {
            for (id, length) in blocks {
                xml.within("Block", |xml| {
                    xml.text("Name", id);
                    xml.text("Size", &length.to_string());
                });
            }
        });
    };
    xml.within("BlockList", |xml| {
        if wants_committed {
            blocks(xml, "CommittedBlocks", &lists.committed);
        }
        if wants_uncommitted {
            blocks(xml, "UncommittedBlocks", &lists.uncommitted);
        }
    });
    let response = Response::bytes(200, "application/xml", xml.end());
    let length = found.as_ref().map_or(0, |found| found.blob.length);
    let response = response.header("x-ms-blob-content-length", &length.to_string());
    Ok(match found {
        Some(found) => headers::tagged(response, &found.etag, found.blob.modified),
        None => response,
    })
}

pub(super) async fn append(asked: &Asked<'_>, at: At<'_>, body: &mut dyn RequestBody) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    if head.header("x-ms-copy-source").is_some() {
        return Err(Refusal::NotBuilt("AppendBlob_AppendBlockFromUrl"));
    }
    let (conditions, md5) = (headers::conditions(head)?, headers::md5(head)?);
    let mut writer = account.receive_append(caller, at, &conditions, headers::length(head)?).await?;
    receive(&mut writer, body).await?;
    let appended = account.append_block(caller, at, &conditions, writer, md5).await?;
    Ok(headers::written(201, &appended.found)
        .header("x-ms-blob-append-offset", &appended.offset.to_string())
        .header("x-ms-blob-committed-block-count", &appended.found.blob.blocks.to_string()))
}

/// Get Blob. Its first bytes are read before anything is answered, so that what cannot be read is an error.
pub(super) async fn get(asked: &Asked<'_>, at: At<'_>) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    refuse_versions(asked)?;
    let found = account.get_blob(caller, at, &headers::conditions(head)?).await?;
    let wanted = headers::range(head)?;
    let (range, mut reader) = account.read(&found, wanted)?;
    let first = reader.next().await?;
    let length = range.end - range.start;
    let (status, is_part) = if wanted.is_some() { (206, true) } else { (200, false) };
    let response = Response::stream(status, "application/octet-stream", Box::pin(parts(first, reader)))
        .header("content-length", &length.to_string());
    let response = headers::describe(response, &found, caller, is_part);
    if !is_part {
        return Ok(response);
    }
    let told = format!("bytes {}-{}/{}", range.start, range.end - 1, found.blob.length);
    Ok(response.header("content-range", &told))
}

/// An answer that ends early is shorter than it says, which the connection tells the client by its end.
fn parts(first: Option<Bytes>, reader: Reader) -> impl futures_util::Stream<Item = Bytes> + Send {
    let rest = stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(part) => part.map(|part| (part, Some(reader))),
            Err(error) => {
                tracing::warn!(%error, "a blob could not be read to its end");
                None
            }
        }
    });
    stream::iter(first).chain(rest)
}

pub(super) async fn get_properties(asked: &Asked<'_>, at: At<'_>) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    refuse_versions(asked)?;
    let found = account.get_blob(caller, at, &headers::conditions(head)?).await?;
    let response = Response::new(200).header("content-length", &found.blob.length.to_string());
    let is_metadata = head.query("comp").is_some();
    let response = if is_metadata { Response::empty(200) } else { response };
    Ok(headers::describe(response, &found, caller, false))
}

pub(super) async fn delete(asked: &Asked<'_>, at: At<'_>) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    refuse_versions(asked)?;
    account.delete_blob(caller, at, &headers::conditions(head)?).await?;
    Ok(Response::empty(202).header("x-ms-delete-type-permanent", "true"))
}

pub(super) async fn set_metadata(asked: &Asked<'_>, at: At<'_>) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    let (metadata, conditions) = (headers::metadata(head)?, headers::conditions(head)?);
    let found = account.set_blob_metadata(caller, at, &metadata, &conditions).await?;
    Ok(headers::written(200, &found))
}

pub(super) async fn set_properties(asked: &Asked<'_>, at: At<'_>) -> Outcome {
    let Asked { head, account, caller, .. } = asked;
    let (wanted, conditions) = (headers::blob_headers(head, false), headers::conditions(head)?);
    let found = account.set_blob_headers(caller, at, &wanted, &conditions).await?;
    Ok(headers::written(200, &found))
}

/// A snapshot or version that is named must not be taken for the blob itself.
fn refuse_versions(asked: &Asked<'_>) -> Result<(), Refusal> {
    let names_one = ["snapshot", "versionid"].iter().any(|name| asked.head.query(name).is_some());
    if names_one { Err(Refusal::NotBuilt("Blob_CreateSnapshot")) } else { Ok(()) }
}
