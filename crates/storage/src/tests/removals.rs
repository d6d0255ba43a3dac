//! Nothing half-written is seen, nothing that is named goes, and nothing stays for ever (ADR 17).

use std::task::Poll;

use base::caps;
use store::memory::{Database, Odds};

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

/// Runs a request until it has waited so often, and drops it then, as a cut connection does. Whether it was answered before.
async fn is_answered_in(waits: usize, request: impl Future) -> bool {
    let (mut request, mut left) = (Box::pin(request), waits);
    std::future::poll_fn(|context| match request.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if left == 0 => Poll::Ready(false),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn an_upload_that_is_cut_off_anywhere_is_there_in_full_or_leaves_nothing() {
    for in_blocks in [false, true] {
        let mut waits = 0;
        loop {
            let clock = clock();
            // Every step waits a few times, and nothing goes wrong.
            let odds = Odds { others_first: 1000, ..Odds::NONE };
            let database = Database::hostile(clock.clone(), waits as u64, odds);
            let f = Fixture::on(Store::on_memory(&database), clock).await;
            let instance = f.account.instance().as_str();
            let before = database.left_of(instance);
            let upload = async {
                if in_blocks {
                    f.put_block("b", 1, "bytes".into()).await.unwrap();
                    f.put_list("b", &[entry(Source::Latest, 1)]).await.unwrap();
                } else {
                    f.put("b", "bytes".into()).await.unwrap();
                }
            };
            let is_answered = is_answered_in(waits, upload).await;
            match f.read("b", None).await {
                Ok(read) => assert_eq!(read, b"bytes", "cut off behind {waits} waits"),
                Err(error) => assert_eq!((error, is_answered), (Error::BlobNotFound, false)),
            }
            f.pass(caps::UPLOAD_SECONDS_MAX + caps::UNCOMMITTED_BLOCK_SECONDS + 1).await;
            if f.found("b").await.is_ok() {
                assert_eq!(f.read("b", None).await.unwrap(), b"bytes", "cut off behind {waits} waits");
                f.delete("b").await.unwrap();
                f.pass_until_let_go().await;
            }
            assert_eq!(database.left_of(instance), before, "cut off behind {waits} waits");
            assert_eq!(f.removals().await, 0, "cut off behind {waits} waits");
            if is_answered {
                assert!(waits > 10, "it was cut off nowhere");
                break;
            }
            waits += 1;
        }
    }
}
