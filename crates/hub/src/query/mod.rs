//! Queries over twins and jobs (`iothub-service.md` §5): text to rows, page by page. The store selects what it can, `documents` makes
//! of its records what callers see, and the rest is judged by the query itself. Reads committed state only, so that whoever asks
//! sees its own writes.

mod documents;
mod scan;
#[cfg(test)]
mod tests;

use std::time::Duration;

use access::{Caller, Permission};
use base::json::Object;
use base::{Continuation, InstanceId, Meter, caps};
use query::hub::{Rank, Select, Source};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::error::Error;
use crate::hub::Hub;

/// Every page is asked for with the text, and those behind the first with the token of the one before too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub text: String,
    pub continuation: Option<Continuation>,
    pub page_max: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct QueryPage {
    /// Each as the client sees it.
    pub rows: Vec<Box<RawValue>>,
    pub kind: RowKind,
    pub next: Option<Continuation>,
}

/// What the rows of an answer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    Twin,
    DeviceJob,
    /// Whatever was selected.
    Raw,
}

/// Good for one query of one hub. The text comes with every page, so its sum is enough.
#[derive(Serialize, Deserialize)]
struct Token {
    instance: InstanceId,
    query: u64,
    after: After,
}

/// Where a page ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum After {
    /// Behind the twin of this id, or behind what a job did to a device, after so many rows.
    Id { keys: Vec<String>, rows: u64 },
    /// The same where rows have an order of their own.
    Rank { rank: Rank, keys: Vec<String>, rows: u64 },
    /// After so many groups.
    Groups(u64),
}

impl After {
    fn rows(&self) -> u64 {
        match self {
            Self::Id { rows, .. } | Self::Rank { rows, .. } | Self::Groups(rows) => *rows,
        }
    }
}

/// Rows with the place behind the last of them, if there are more.
struct Found {
    rows: Vec<Box<RawValue>>,
    next: Option<After>,
}

/// One page that is being made.
struct Asked<'q> {
    select: &'q Select,
    /// With whom nobody else shares their turns.
    caller: &'q str,
    after: Option<After>,
    page_max: usize,
}

impl Hub {
    /// `Query_GetTwins`. `EXPLAIN` before a query answers with its plan.
    pub async fn query(&self, caller: &Caller, query: &Query) -> Result<QueryPage, Error> {
        caller.require(Permission::TwinRead, self.scope())?;
        self.charge(Meter::Query)?;
        let select = Select::parse(&query.text).map_err(|error| Error::ArgumentInvalid(error.to_string()))?;
        if select.source() == Source::Jobs {
            caller.require(Permission::JobRead, self.scope())?;
        }
        if select.is_explained() {
            let rows = vec![raw(&json!({"plan": select.explained()}))];
            return Ok(QueryPage { rows, kind: RowKind::Raw, next: None });
        }
        let page_max = query.page_max.unwrap_or(caps::QUERY_PAGE_DEFAULT).clamp(1, caps::QUERY_PAGE_MAX);
        let after = self.place(query, &select)?;
        let asked = Asked { select: &select, caller: caller.object_id(), after, page_max };
        let longest = Duration::from_secs(caps::QUERY_SECONDS_MAX);
        // The store stops what nobody waits for any more.
        let found =
            tokio::time::timeout(longest, self.find(asked)).await.map_err(|_| Error::ServerBusy)??;
        let next = found.next.map(|after| {
            let instance = self.instance().clone();
            Continuation::encode(&Token { instance, query: sum(&query.text), after })
        });
        Ok(QueryPage { rows: found.rows, kind: kind(&select), next })
    }

    /// How many rows a query of the hub's own has; of one that counts, what it counts.
    pub(crate) async fn count_rows(&self, select: &Select) -> Result<u64, Error> {
        let caller = Caller::system();
        let longest = Duration::from_secs(caps::QUERY_SECONDS_MAX);
        let counted = async {
            let (mut after, mut rows) = (None, 0);
            let counting = select.counting();
            let asked = counting.as_ref().unwrap_or(select);
            loop {
                let page_max = caps::QUERY_PAGE_MAX;
                let found =
                    self.find(Asked { select: asked, caller: caller.object_id(), after, page_max }).await?;
                if counting.is_some() {
                    let row =
                        found.rows.first().and_then(|row| serde_json::from_str::<Object>(row.get()).ok());
                    let count = row.and_then(|row| row.values().next()?.as_u64());
                    return count.ok_or(Error::ServerError);
                }
                rows += found.rows.len() as u64;
                match found.next {
                    None => return Ok(rows),
                    next => after = next,
                }
            }
        };
        tokio::time::timeout(longest, counted).await.map_err(|_| Error::ServerBusy)?
    }

    async fn find(&self, asked: Asked<'_>) -> Result<Found, Error> {
        if let Some(plan) = asked.select.count_plan() {
            let rows = self.store().query((self.instance(), asked.caller), &plan, None, 1).await?.rows;
            return Ok(Found { rows, next: None });
        }
        if asked.select.is_grouped() {
            self.groups(asked).await
        } else if asked.select.is_ordered() {
            self.ranked(asked).await
        } else {
            self.selected(asked).await
        }
    }

    /// Where the page starts that a token asks for: one of another query, or of another hub, is none.
    fn place(&self, query: &Query, select: &Select) -> Result<Option<After>, Error> {
        let Some(continuation) = &query.continuation else { return Ok(None) };
        let invalid = || Error::invalid("The continuation token is not one of this query.");
        let token: Token = continuation.decode().map_err(|_| invalid())?;
        let fits = match &token.after {
            After::Id { .. } => !select.is_grouped() && !select.is_ordered(),
            After::Rank { rank, .. } => !select.is_grouped() && select.accepts(rank),
            After::Groups(_) => select.is_grouped(),
        };
        let keys = match &token.after {
            After::Id { keys, .. } | After::Rank { keys, .. } => Some(keys.len()),
            After::Groups(_) => None,
        };
        let has_keys = keys.is_none_or(|keys| keys == if select.source() == Source::Devices { 1 } else { 2 });
        let is_of_this = token.instance == *self.instance() && token.query == sum(&query.text);
        if is_of_this && fits && has_keys { Ok(Some(token.after)) } else { Err(invalid()) }
    }
}

fn kind(select: &Select) -> RowKind {
    match select.source() {
        Source::Jobs => RowKind::DeviceJob,
        Source::Devices | Source::Modules if select.is_of_documents() => RowKind::Twin,
        Source::Devices | Source::Modules => RowKind::Raw,
    }
}

/// Of a query's text: a token that comes back with another text is refused.
fn sum(text: &str) -> u64 {
    base::secret::stable_hash(text.trim().as_bytes())
}

fn raw(row: &serde_json::Value) -> Box<RawValue> {
    to_raw_value(row).expect("a value is JSON")
}
