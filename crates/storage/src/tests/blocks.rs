//! Blocks that wait, lists that commit them, and blobs that are appended to.

use base::caps;
use bytes::Bytes;

use super::*;
use crate::block_list::{BlockId, Entry, Source};

fn id(number: usize) -> BlockId {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(format!("{number:06}")).parse().unwrap()
}

pub(super) fn entry(source: Source, number: usize) -> Entry {
    Entry { source, id: id(number) }
}

impl Fixture {
    pub(super) async fn put_block(&self, name: &str, number: usize, bytes: Bytes) -> Result<[u8; 16], Error> {
        let (container, name) = (container(), blob(name));
        let at = (&container, &name);
        let mut writer = self.account.receive_block(&KEY, at, Some(bytes.len() as u64)).await?;
        writer.write(bytes).await?;
        self.account.put_block(&KEY, at, &id(number), writer, None).await
    }

    pub(super) async fn put_list(&self, name: &str, entries: &[Entry]) -> Result<Found, Error> {
        let (container, name, none) = (container(), blob(name), Conditions::default());
        let new = new(BlobKind::Block);
        self.account.put_block_list(&KEY, (&container, &name), entries, &new, &none).await
    }

    async fn lists(&self, name: &str) -> Result<BlockLists, Error> {
        Ok(self.account.get_block_lists(&KEY, (&container(), &blob(name))).await?.1)
    }

    async fn append(&self, name: &str, bytes: Bytes, conditions: &Conditions) -> Result<u64, Error> {
        let (container, name) = (container(), blob(name));
        let (at, length) = ((&container, &name), Some(bytes.len() as u64));
        let mut writer = self.account.receive_append(&KEY, at, conditions, length).await?;
        writer.write(bytes).await?;
        Ok(self.account.append_block(&KEY, at, conditions, writer, None).await?.offset)
    }
}

#[tokio::test]
async fn blocks_are_not_seen_until_a_list_commits_them_in_its_order() {
    let f = Fixture::new().await;
    for (number, text) in [(1, "one"), (2, "two"), (3, "three")] {
        f.put_block("b", number, text.into()).await.unwrap();
    }
    assert_eq!(f.found("b").await, Err(Error::BlobNotFound));
    assert_eq!(f.lists("b").await.unwrap().uncommitted.len(), 3);
    let list = [entry(Source::Latest, 3), entry(Source::Uncommitted, 1)];
    f.put_list("b", &list).await.unwrap();
    assert_eq!(f.read("b", None).await.unwrap(), b"threeone");
    let lists = f.lists("b").await.unwrap();
    assert_eq!(lists.committed, [(id(3).to_string(), 5), (id(1).to_string(), 3)]);
    assert!(lists.uncommitted.is_empty(), "the others are let go of");
    assert_eq!(f.put_list("b", &[entry(Source::Latest, 2)]).await, Err(Error::InvalidBlockList));
    assert_eq!(f.put_list("b", &[entry(Source::Uncommitted, 3)]).await, Err(Error::InvalidBlockList));
    assert_eq!(f.read("b", None).await.unwrap(), b"threeone");
    f.pass_until_let_go().await;
    assert_eq!(f.read("b", None).await.unwrap(), b"threeone");
}

#[tokio::test]
async fn a_new_list_takes_over_committed_blocks_and_the_sweep_leaves_them_alone() {
    let f = Fixture::new().await;
    for number in 1..=3 {
        f.put_block("b", number, number.to_string().into()).await.unwrap();
    }
    f.put_list("b", &[1, 2, 3].map(|number| entry(Source::Latest, number))).await.unwrap();
    let before = f.chunks_of("b").await;
    f.put_block("b", 2, "new".into()).await.unwrap();
    f.put_block("b", 4, "4".into()).await.unwrap();
    let list = [entry(Source::Committed, 2), entry(Source::Latest, 2), entry(Source::Committed, 1)];
    f.put_list("b", &list).await.unwrap();
    assert_eq!(f.read("b", None).await.unwrap(), b"2new1");
    for _ in 0..2 {
        f.pass_until_let_go().await;
        assert_eq!(f.read("b", None).await.unwrap(), b"2new1");
    }
    assert_eq!(
        [f.has_chunk(&before[0]).await, f.has_chunk(&before[1]).await, f.has_chunk(&before[2]).await],
        [true, true, false]
    );
    f.pass(caps::UNCOMMITTED_BLOCK_SECONDS).await;
    assert_eq!(f.removals().await, 0);
    assert_eq!(f.read("b", None).await.unwrap(), b"2new1");
}

#[tokio::test]
async fn a_blob_of_more_blocks_than_a_record_lists_is_read_from_anywhere() {
    let f = Fixture::new().await;
    for number in 0..10 {
        f.put_block("b", number, number.to_string().into()).await.unwrap();
    }
    let count = 2 * caps::BLOCKS_OF_PIECE_MAX + 5;
    let list: Vec<_> = (0..count).map(|at| entry(Source::Latest, at % 7)).collect();
    assert_eq!(f.put_list("b", &list).await.unwrap().blob.length, count as u64);
    let expected: String = (0..count).map(|at| (at % 7).to_string()).collect();
    for from in [0, 999, 1000, 1999, count - 2] {
        let to = (from + 30).min(count - 1);
        let read = f.read("b", Some(&format!("bytes={from}-{to}"))).await.unwrap();
        assert_eq!(String::from_utf8(read).unwrap(), expected[from..=to], "{from}");
    }
    assert_eq!(f.read("b", None).await.unwrap(), expected.as_bytes());
}

#[tokio::test]
async fn a_block_that_comes_twice_replaces_itself_and_all_ids_are_as_long() {
    let f = Fixture::new().await;
    f.put_block("b", 1, "first".into()).await.unwrap();
    f.put_block("b", 1, "second".into()).await.unwrap();
    assert_eq!(f.lists("b").await.unwrap().uncommitted, [(id(1).to_string(), 6)]);
    let (container, name) = (container(), blob("b"));
    let at = (&container, &name);
    let mut writer = f.account.receive_block(&KEY, at, None).await.unwrap();
    writer.write("x".into()).await.unwrap();
    let short = f.account.put_block(&KEY, at, &"YTE=".parse().unwrap(), writer, None).await;
    assert_eq!(short, Err(Error::InvalidBlobOrBlock));
    f.put_list("b", &[entry(Source::Latest, 1)]).await.unwrap();
    f.pass_until_let_go().await;
    assert_eq!(f.read("b", None).await.unwrap(), b"second");
}

#[tokio::test]
async fn blocks_that_come_at_the_same_time_are_all_there() {
    let f = Fixture::new().await;
    let puts = (0..20).map(|number| f.put_block("b", number, number.to_string().into()));
    let mut puts: Vec<_> = puts.map(Box::pin).collect();
    // All of them at once, in turns.
    std::future::poll_fn(|cx| {
        puts.retain_mut(|put| match put.as_mut().poll(cx) {
            std::task::Poll::Ready(done) => {
                done.unwrap();
                false
            }
            std::task::Poll::Pending => true,
        });
        if puts.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(f.lists("b").await.unwrap().uncommitted.len(), 20);
}

#[tokio::test]
async fn an_append_is_made_at_the_end_and_where_its_condition_says() {
    let f = Fixture::new().await;
    let (container, name, none) = (container(), blob("log"), Conditions::default());
    let at = (&container, &name);
    assert_eq!(f.append("log", "x".into(), &none).await, Err(Error::BlobNotFound));
    let writer = f.account.receive_blob(&KEY, at, &none, Some(0)).await.unwrap();
    f.account.put_blob(&KEY, at, new(BlobKind::Append), &none, writer, None).await.unwrap();
    assert_eq!(f.append("log", "one".into(), &none).await, Ok(0));
    assert_eq!(f.append("log", "two".into(), &none).await, Ok(3));
    let here = Conditions { append_position: Some(6), ..Conditions::default() };
    assert_eq!(f.append("log", "three".into(), &here).await, Ok(6));
    assert_eq!(f.append("log", "three".into(), &here).await, Err(Error::AppendPositionConditionNotMet));
    let small = Conditions { length_max: Some(12), ..Conditions::default() };
    assert_eq!(f.append("log", "xx".into(), &small).await, Err(Error::MaxBlobSizeConditionNotMet));
    assert_eq!(f.append("log", "x".into(), &small).await, Ok(11));
    assert_eq!(f.read("log", None).await.unwrap(), b"onetwothreex");
    assert_eq!(f.put_block("log", 1, "x".into()).await, Err(Error::InvalidBlobType));
    f.put("block", "x".into()).await.unwrap();
    assert_eq!(f.append("block", "x".into(), &none).await, Err(Error::InvalidBlobType));
}
