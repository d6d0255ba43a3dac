//! Nothing half-written is seen, nothing that is named goes, and nothing stays for ever (ADR 17).

use base::caps;

use super::blocks::entry;
use super::*;
use crate::block_list::Source;

#[tokio::test]
async fn what_is_replaced_or_deleted_stays_for_its_readers_and_then_goes() {
    let f = Fixture::new().await;
    f.put("b", "before".into()).await.unwrap();
    let old = f.found("b").await.unwrap();
    let chunks = f.chunks_of("b").await;
    f.put("b", "after".into()).await.unwrap();
    f.pass(caps::BLOB_LET_GO_SECONDS - 1).await;
    assert_eq!(read_all(f.account.read(&old, None).unwrap().1).await.unwrap(), b"before");
    f.pass(2).await;
    assert!(!f.has_chunk(&chunks[0]).await);
    assert!(read_all(f.account.read(&old, None).unwrap().1).await.is_err());
    assert_eq!(f.read("b", None).await.unwrap(), b"after");
    let chunks = f.chunks_of("b").await;
    f.delete("b").await.unwrap();
    assert_eq!(f.delete("b").await, Err(Error::BlobNotFound));
    assert!(f.has_chunk(&chunks[0]).await);
    f.pass_until_let_go().await;
    assert!(!f.has_chunk(&chunks[0]).await);
    assert_eq!(f.removals().await, 0);
}

#[tokio::test]
async fn a_body_that_ended_early_is_never_seen_and_goes() {
    let f = Fixture::new().await;
    let (container, name) = (container(), blob("half"));
    let (at, none) = ((&container, &name), Conditions::default());
    let whole = bytes(3 * caps::CHUNK_BYTES_MAX);
    let mut writer = f.account.receive_blob(&KEY, at, &none, Some(whole.len() as u64)).await.unwrap();
    writer.write(whole.slice(..2 * caps::CHUNK_BYTES_MAX)).await.unwrap();
    let written = writer.chunks();
    assert_eq!(written.len(), 2);
    drop(writer);
    assert_eq!(f.found("half").await, Err(Error::BlobNotFound));
    assert!(f.has_chunk(&written[1]).await);
    f.pass(caps::UPLOAD_SECONDS_MAX + 1).await;
    assert!(!f.has_chunk(&written[0]).await && !f.has_chunk(&written[1]).await);
    assert_eq!(f.removals().await, 0);
}

#[tokio::test]
async fn an_upload_that_is_slower_than_its_removal_names_nothing_that_is_gone() {
    let f = Fixture::new().await;
    f.put("b", "kept".into()).await.unwrap();
    let (container, name) = (container(), blob("b"));
    let (at, none) = ((&container, &name), Conditions::default());
    let mut writer = f.account.receive_blob(&KEY, at, &none, None).await.unwrap();
    writer.write(bytes(caps::CHUNK_BYTES_MAX)).await.unwrap();
    f.pass(caps::UPLOAD_SECONDS_MAX + 1).await;
    let put = f.account.put_blob(&KEY, at, new(BlobKind::Block), &none, writer, None).await;
    assert_eq!(put.unwrap_err().code(), "OperationTimedOut");
    assert_eq!(f.read("b", None).await.unwrap(), b"kept");
}

#[tokio::test]
async fn blocks_wait_a_week_behind_the_last_that_came() {
    let f = Fixture::new().await;
    let week = caps::UNCOMMITTED_BLOCK_SECONDS;
    f.put_block("b", 1, "one".into()).await.unwrap();
    f.pass(week - 10).await;
    f.put_block("b", 2, "two".into()).await.unwrap();
    f.pass(20).await;
    f.pass(week - 40).await;
    assert!(f.put_list("b", &[entry(Source::Latest, 1), entry(Source::Latest, 2)]).await.is_ok());
    f.put_block("c", 1, "one".into()).await.unwrap();
    f.pass(week + 1).await;
    assert_eq!(f.put_list("c", &[entry(Source::Latest, 1)]).await, Err(Error::InvalidBlockList));
    // Of the next block's name nothing is left that would be counted.
    f.put_block("c", 1, "again".into()).await.unwrap();
    f.put_list("c", &[entry(Source::Latest, 1)]).await.unwrap();
    f.pass(2 * week).await;
    f.pass(1).await;
    assert_eq!(f.removals().await, 0);
    assert_eq!(f.read("b", None).await.unwrap(), b"onetwo");
    assert_eq!(f.read("c", None).await.unwrap(), b"again");
}

#[tokio::test]
async fn a_container_takes_its_blobs_along_and_one_of_its_name_has_none_of_them() {
    let f = Fixture::new().await;
    f.put("b", "old".into()).await.unwrap();
    f.put_block("waiting", 1, "old".into()).await.unwrap();
    let chunks = f.chunks_of("b").await;
    f.account.delete_container(&KEY, &container(), &Conditions::default()).await.unwrap();
    assert_eq!(f.found("b").await, Err(Error::ContainerNotFound));
    f.account.create_container(&KEY, &container(), Metadata::new()).await.unwrap();
    assert_eq!(f.found("b").await, Err(Error::BlobNotFound));
    f.put("b", "new".into()).await.unwrap();
    f.pass_until_let_go().await;
    assert!(!f.has_chunk(&chunks[0]).await);
    assert_eq!(f.read("b", None).await.unwrap(), b"new");
    f.pass(caps::UNCOMMITTED_BLOCK_SECONDS).await;
    assert_eq!(f.removals().await, 0);
}

#[tokio::test]
async fn an_account_that_ends_leaves_nothing_and_nothing_comes_behind_its_end() {
    let f = Fixture::new().await;
    f.put("b", "bytes".into()).await.unwrap();
    let chunks = f.chunks_of("b").await;
    let (container, name) = (container(), blob("late"));
    let (at, none) = ((&container, &name), Conditions::default());
    let mut writer = f.account.receive_blob(&KEY, at, &none, None).await.unwrap();
    writer.write(bytes(caps::CHUNK_BYTES_MAX)).await.unwrap();
    f.accounts.remove(f.account.instance()).await.unwrap();
    assert!(!f.has_chunk(&chunks[0]).await);
    let late = f.account.put_blob(&KEY, at, new(BlobKind::Block), &none, writer, None).await;
    assert!(late.is_err());
    assert!(f.accounts.find("account1").is_none());
    f.pass(caps::UPLOAD_SECONDS_MAX + 1).await;
    assert_eq!(f.removals().await, 0);
}
