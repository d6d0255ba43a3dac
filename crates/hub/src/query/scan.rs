//! The three ways to a page: rows in the order of ids, rows in an order of their own, and groups. The first reads until the page is
//! full; the others read everything that the store selects, in pieces, and keep no more of it than their page or their groups.

use std::collections::BTreeMap;

use base::caps;
use query::hub::{Prefilter, Rank, Select};
use serde_json::Value;
use serde_json::value::RawValue;
use store::Key;

use super::documents::{Document, Documents, damaged};
use super::{After, Asked, Found, raw};
use crate::error::Error;
use crate::hub::Hub;

/// Goes over what the store selects.
struct Scan<'s> {
    hub: &'s Hub,
    select: &'s Select,
    caller: &'s str,
    over: Over,
    /// Behind which the next piece begins.
    keys: Option<Vec<String>>,
}

enum Over {
    /// What the store gives.
    Twins(Prefilter),
    /// What jobs did, below a key.
    DeviceJobs(Key),
}

impl<'s> Scan<'s> {
    fn new(hub: &'s Hub, asked: &Asked<'s>, keys: Option<Vec<String>>) -> Self {
        let over = match asked.select.prefilter() {
            Some(prefilter) => Over::Twins(prefilter),
            None => Over::DeviceJobs(hub.device_jobs_key(asked.select.job_id())),
        };
        Self { hub, select: asked.select, caller: asked.caller, over, keys }
    }

    /// The next piece, at most `limit` documents; an empty one is the end.
    async fn next(&mut self, limit: usize) -> Result<Documents, Error> {
        let keys = self.keys.clone();
        let found = match &self.over {
            Over::Twins(prefilter) => self.hub.documents(self.caller, &prefilter.plan, keys, limit).await?,
            Over::DeviceJobs(below) => self.hub.device_jobs(below, keys, limit).await?,
        };
        if let Some(last) = found.documents.last() {
            self.keys = Some(last.keys.clone());
        }
        Ok(found)
    }

    /// Whether what comes is what the query selects, and need not be judged here.
    fn is_exact(&self) -> bool {
        match &self.over {
            Over::Twins(prefilter) => prefilter.is_exact,
            Over::DeviceJobs(_) => false,
        }
    }

    fn selects(&self, document: &Value) -> bool {
        self.is_exact() || self.select.selects(document)
    }

    /// Calls `take` with everything that the query selects.
    async fn all(&mut self, mut take: impl FnMut(Document) -> Result<(), Error>) -> Result<(), Error> {
        loop {
            let found = self.next(caps::QUERY_PAGE_MAX).await?;
            for document in found.documents {
                if self.selects(&document.json) {
                    take(document)?;
                }
            }
            if !found.has_more {
                return Ok(());
            }
        }
    }
}

impl Hub {
    /// Reads until the page is full, but no more than a page may look at: then it holds fewer rows, and a token.
    pub(super) async fn selected(&self, asked: Asked<'_>) -> Result<Found, Error> {
        let mut page = Page::new(&asked);
        let keys = match &asked.after {
            Some(After::Id { keys, .. }) => Some(keys.clone()),
            _ => None,
        };
        let mut scan = Scan::new(self, &asked, keys);
        let mut looked = 0;
        loop {
            let limit = if scan.is_exact() { page.left().max(1) } else { caps::QUERY_PAGE_MAX };
            if page.is_full() {
                return Ok(page.end(None));
            }
            let Documents { documents, has_more } = scan.next(limit).await?;
            looked += documents.len();
            let mut left = documents.into_iter().peekable();
            while let Some(document) = left.next() {
                if scan.selects(&document.json) {
                    page.add(raw(&asked.select.row(&document.json)));
                }
                if page.is_full() || looked >= caps::QUERY_ROWS_MAX && left.peek().is_none() {
                    let is_more = has_more || left.peek().is_some();
                    let rows = page.rows_so_far();
                    return Ok(page.end(is_more.then_some(After::Id { keys: document.keys, rows })));
                }
            }
            if !has_more {
                return Ok(page.end(None));
            }
        }
    }

    /// Keeps the first rows behind the last page's, and one more that tells whether there is another page.
    pub(super) async fn ranked(&self, asked: Asked<'_>) -> Result<Found, Error> {
        let mut page = Page::new(&asked);
        let wanted = page.left();
        let behind = match &asked.after {
            Some(After::Rank { rank, keys, .. }) => Some((rank.clone(), keys.clone())),
            _ => None,
        };
        let mut scan = Scan::new(self, &asked, None);
        let mut first: BTreeMap<(Rank, Vec<String>), Box<RawValue>> = BTreeMap::new();
        scan.all(|document| {
            let place = (asked.select.rank(&document.json), document.keys);
            let is_wanted = behind.as_ref().is_none_or(|behind| place > *behind)
                && (first.len() <= wanted || first.last_key_value().is_some_and(|(last, _)| place < *last));
            if is_wanted {
                first.insert(place, raw(&asked.select.row(&document.json)));
                if first.len() > wanted + 1 {
                    first.pop_last();
                }
            }
            Ok(())
        })
        .await?;
        let mut rest = first.into_iter().peekable();
        while !page.is_full() {
            let Some(((rank, keys), row)) = rest.next() else { break };
            page.add(row);
            if page.is_full() && rest.peek().is_some() {
                let rows = page.rows_so_far();
                return Ok(page.end(Some(After::Rank { rank, keys, rows })));
            }
        }
        Ok(page.end(None))
    }

    /// As the store counts them, if it can and they are not too many: one document for each combination of what rows are made of, with
    /// how many there are like it.
    async fn counted_groups(&self, asked: &Asked<'_>) -> Result<Option<Vec<(Value, u64)>>, Error> {
        let Some(plan) = asked.select.group_plan() else { return Ok(None) };
        let found = self.store().query((self.instance(), asked.caller), &plan, None, caps::QUERY_GROUPS_MAX);
        let found = found.await?;
        if found.next.is_some() {
            return Ok(None);
        }
        let groups = found.rows.iter().map(|row| {
            let group: Vec<Value> = serde_json::from_str(row.get()).map_err(damaged)?;
            asked.select.group_of(&group).ok_or(Error::ServerError)
        });
        groups.collect::<Result<_, _>>().map(Some)
    }

    pub(super) async fn groups(&self, asked: Asked<'_>) -> Result<Found, Error> {
        let mut groups = asked.select.groups();
        if let Some(counted) = self.counted_groups(&asked).await? {
            for (document, count) in &counted {
                groups.add_alike(document, *count);
            }
        } else {
            let adding = |document: Document| {
                groups.add(&document.json);
                if !groups.are_too_many() {
                    return Ok(());
                }
                let max = caps::QUERY_GROUPS_MAX;
                Err(Error::invalid(format!("The query has more than {max} groups; narrow it with WHERE.")))
            };
            Scan::new(self, &asked, None).all(adding).await?;
        }
        let before = asked.after.as_ref().map_or(0, After::rows);
        let mut page = Page::new(&asked);
        let behind = usize::try_from(before).unwrap_or(usize::MAX);
        let mut rows = groups.rows().into_iter().skip(behind).peekable();
        while !page.is_full() {
            let Some(row) = rows.next() else { break };
            page.add(raw(&row));
        }
        let next = rows.peek().is_some().then(|| After::Groups(page.rows_so_far()));
        Ok(page.end(next))
    }
}

/// Rows of one page, within TOP and within what a page may hold.
struct Page {
    rows: Vec<Box<RawValue>>,
    before: u64,
    /// How many it may hold yet.
    left: usize,
    /// How many all pages may hold yet, this one included.
    top: u64,
    bytes: usize,
}

impl Page {
    fn new(asked: &Asked<'_>) -> Self {
        let before = asked.after.as_ref().map_or(0, After::rows);
        let top = asked.select.top().map_or(u64::MAX, |top| top.saturating_sub(before));
        let left = usize::try_from(top).map_or(asked.page_max, |top| top.min(asked.page_max));
        Self { rows: Vec::new(), before, left, top, bytes: 0 }
    }

    fn left(&self) -> usize {
        self.left
    }

    fn is_full(&self) -> bool {
        self.left == 0 || self.bytes > caps::QUERY_PAGE_BYTES_MAX
    }

    fn add(&mut self, row: Box<RawValue>) {
        self.bytes += row.get().len();
        self.left -= 1;
        self.top -= 1;
        self.rows.push(row);
    }

    fn rows_so_far(&self) -> u64 {
        self.before.saturating_add(self.rows.len() as u64)
    }

    fn end(self, next: Option<After>) -> Found {
        Found { next: next.filter(|_| self.top > 0), rows: self.rows }
    }
}
