//! What a blob consists of: blocks in their order, each of chunks, kept in pieces of so many blocks. And the reader that goes
//! over it without holding more than a part of one chunk.

use std::collections::VecDeque;
use std::ops::Range;

use base::{InstanceId, caps, secret};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::chunks::ChunkId;
use store::{Key, Record, Scan, Stored, Table, table};

use crate::account::Account;
use crate::error::Error;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    pub(crate) id: ChunkId,
    pub(crate) length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    /// Empty where the client gave none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) id: String,
    pub(crate) chunks: Vec<Chunk>,
}

impl Block {
    pub(crate) fn length(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.length as u64).sum()
    }

    /// By which it is told from others.
    pub(crate) fn first(&self) -> Option<&ChunkId> {
        self.chunks.first().map(|chunk| &chunk.id)
    }
}

/// Some blocks of a content, which is never changed but for its last piece, to which an append may add.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BlobContent {
    pub(crate) instance: InstanceId,
    pub(crate) content: String,
    pub(crate) number: usize,
    /// Where it begins in the blob.
    pub(crate) offset: u64,
    pub(crate) blocks: Vec<Block>,
}

impl Record for BlobContent {
    const TABLE: Table = table::BLOB_CONTENT;

    fn key(&self) -> Key {
        Key::new([self.instance.as_str(), &self.content, &number(self.number)])
    }
}

fn number(number: usize) -> String {
    format!("{number:06}")
}

impl BlobContent {
    pub(crate) fn key_of(instance: &InstanceId, content: &str, at: usize) -> Key {
        Key::new([instance.as_str(), content, &number(at)])
    }

    pub(crate) fn length(&self) -> u64 {
        self.blocks.iter().map(Block::length).sum()
    }

    /// Everything there is to a content, under an id that is made up.
    pub(crate) fn pieces(instance: &InstanceId, blocks: &[Block]) -> Vec<Self> {
        let (content, mut offset) = (secret::random_hex(16), 0);
        let piece = |(number, blocks): (usize, &[Block])| {
            let piece = Self {
                instance: instance.clone(),
                content: content.clone(),
                number,
                offset,
                blocks: blocks.to_vec(),
            };
            offset += piece.length();
            piece
        };
        blocks.chunks(caps::BLOCKS_OF_PIECE_MAX).enumerate().map(piece).collect()
    }
}

/// The bytes of a part of a blob, in portions.
pub struct Reader {
    account: Account,
    content: Option<String>,
    next_piece: Option<Key>,
    left: Range<u64>,
    /// Of the piece that was read last: chunks and what is wanted of them.
    parts: VecDeque<(ChunkId, Range<usize>)>,
}

impl Reader {
    pub(crate) fn new(account: &Account, content: Option<&str>, range: Range<u64>) -> Self {
        let (account, content) = (account.clone(), content.map(str::to_owned));
        Self { account, content, next_piece: None, left: range, parts: VecDeque::new() }
    }

    /// `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some((chunk, range)) = self.parts.pop_front() {
                let portion = range.start..range.end.min(range.start + caps::BLOB_READ_BYTES_MAX);
                if portion.end < range.end {
                    self.parts.push_front((chunk.clone(), portion.end..range.end));
                }
                let chunks = self.account.store().chunks();
                return Ok(Some(chunks.read(self.account.instance(), &chunk, portion).await?));
            }
            let Some(content) = self.content.clone().filter(|_| !self.left.is_empty()) else {
                return Ok(None);
            };
            let scan = Scan::new(Key::new([self.account.instance().as_str(), &content]), 1);
            let page = self.account.store().scan(scan.after(self.next_piece.take())).await?;
            let Some(Stored { record: piece, .. }) = page.into_iter().next() else {
                let lost = store::StoreError::Corrupt(format!("the content {content} ends too early"));
                return Err(lost.into());
            };
            self.take_in(&piece);
            self.next_piece = Some(piece.key());
        }
    }

    fn take_in(&mut self, piece: &BlobContent) {
        let mut at = piece.offset;
        for chunk in piece.blocks.iter().flat_map(|block| &block.chunks) {
            let end = at + chunk.length as u64;
            let (from, to) = (self.left.start.max(at), self.left.end.min(end));
            if from < to {
                let within = |position: u64| usize::try_from(position - at).unwrap_or(chunk.length);
                self.parts.push_back((chunk.id.clone(), within(from)..within(to)));
                self.left.start = to;
            }
            at = end;
        }
    }
}

impl Account {
    /// Every block of a content, in order.
    pub(crate) async fn blocks_of(&self, content: Option<&str>) -> Result<Vec<Block>, Error> {
        let Some(content) = content else { return Ok(Vec::new()) };
        let (mut blocks, mut after) = (Vec::new(), None);
        loop {
            let scan = Scan::new(Key::new([self.instance().as_str(), content]), caps::BLOB_SWEEP_PIECES);
            let page = self.store().scan::<BlobContent>(scan.after(after)).await?;
            let Some(last) = page.last() else { return Ok(blocks) };
            after = Some(last.record.key());
            blocks.extend(page.into_iter().flat_map(|piece| piece.record.blocks));
        }
    }
}
