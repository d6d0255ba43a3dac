//! Records of the store to the documents that a query addresses: twins as `GET /twins` shows them, or of a twin only what lies in its
//! own record, where a query asks for no more; and what jobs did to devices.

use base::DeviceId;
use query::Plan;
use query::hub::{Condition, Prefilter};
use query::plan::{Beside, Position};
use serde_json::Value;
use serde_json::value::RawValue;
use store::{Key, Scan, StoreError};

use crate::cloud_to_device::DeviceQueue;
use crate::error::Error;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::job::DeviceJob;
use crate::presence::{Activity, shown};
use crate::twin::{DeviceTwin, TwinView};

/// A document and the keys by which it is ordered.
pub(crate) struct Document {
    pub(crate) keys: Vec<String>,
    pub(crate) json: Value,
}

/// Some documents, in the order of their keys, and whether there are more behind them.
pub(crate) struct Documents {
    pub(crate) documents: Vec<Document>,
    pub(crate) has_more: bool,
}

/// A twin and what goes with it, read together.
struct Records {
    twin: DeviceTwin,
    identity: Identity,
    activity: Option<Activity>,
    queue: Option<DeviceQueue>,
}

impl Hub {
    /// Documents behind `keys` that a query may select: at least those that it does, and only those if the plan is exact.
    pub(crate) async fn documents(
        &self,
        caller: &str,
        plan: &Plan,
        keys: Option<Vec<String>>,
        limit: usize,
    ) -> Result<Documents, Error> {
        let after = keys.map(|keys| Position { keys, rows: 0 });
        let found = self.store().query((self.instance(), caller), plan, after.as_ref(), limit).await?;
        let has_more = found.next.is_some();
        let documents = if plan.beside().contains(&Beside::Identity) {
            self.whole(plan.beside(), &found.rows).await?
        } else {
            found.rows.iter().map(|row| recorded(row)).collect::<Result<_, _>>()?
        };
        Ok(Documents { documents, has_more })
    }

    /// Below which key all lies that jobs did, or that one of them did.
    pub(super) fn device_jobs_key(&self, job_id: Option<&str>) -> Key {
        let all = Key::instance(self.instance());
        job_id.map_or(all.clone(), |job_id| all.child(job_id))
    }

    /// What jobs did to devices, in the order of jobs and devices.
    pub(super) async fn device_jobs(
        &self,
        below: &Key,
        keys: Option<Vec<String>>,
        limit: usize,
    ) -> Result<Documents, Error> {
        let after = keys.map(|keys| {
            Key::new([self.instance().as_str()].into_iter().chain(keys.iter().map(String::as_str)))
        });
        let mut found =
            self.store().scan::<DeviceJob>(Scan::new(below.clone(), limit + 1).after(after)).await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let document = |job: DeviceJob| Document {
            keys: vec![job.job_id.as_str().to_owned(), job.device_id.as_str().to_owned()],
            json: job.document(),
        };
        Ok(Documents {
            documents: found.into_iter().map(|stored| document(stored.record)).collect(),
            has_more,
        })
    }

    /// The devices of whose twins a condition is true, of at most `limit` that are looked at, and the last of these if there are more.
    pub(crate) async fn devices_where(
        &self,
        caller: &str,
        condition: &Condition,
        keys: Option<Vec<String>>,
        limit: usize,
    ) -> Result<(Vec<DeviceId>, Option<DeviceId>), Error> {
        let select = condition.clone().select();
        let Some(Prefilter { plan, .. }) = select.prefilter() else { return Ok((Vec::new(), None)) };
        let Documents { documents, has_more } = self.documents(caller, &plan, keys, limit).await?;
        let device_id = |document: &Document| document.keys.first().and_then(|id| id.parse().ok());
        let last = documents.last().and_then(device_id).filter(|_| has_more);
        let selected = documents.iter().filter(|document| condition.matches(&document.json));
        Ok((selected.filter_map(device_id).collect(), last))
    }

    async fn whole(&self, beside: &[Beside], rows: &[Box<RawValue>]) -> Result<Vec<Document>, Error> {
        let records = rows.iter().map(|row| Records::read(beside, row));
        let records: Vec<Records> = records.collect::<Result<_, _>>()?;
        let ids: Vec<_> = records.iter().map(|records| records.identity.id.clone()).collect();
        let owners = self.store().sessions().owners(self.instance(), &ids).await?;
        let documents = records.into_iter().zip(owners).map(|(records, owner)| {
            let Records { twin, identity, activity, queue } = records;
            let known = self.mailboxes().known(&identity.id, &identity.generation_id);
            let connection = shown(&identity, owner, known.as_ref(), activity.as_ref());
            let messages = queue.map_or(0, |queue| queue.count);
            let view = TwinView { twin, identity, connection, messages };
            Document { keys: keys_of(&view.twin), json: view.document() }
        });
        Ok(documents.collect())
    }
}

impl Records {
    /// A list of the twin's record and of what lies beside it.
    fn read(beside: &[Beside], row: &RawValue) -> Result<Self, Error> {
        let parts: Vec<&RawValue> = serde_json::from_str(row.get()).map_err(damaged)?;
        let [twin, parts @ ..] = parts.as_slice() else { return Err(Error::ServerError) };
        let part = |wanted: Beside| beside.iter().position(|one| *one == wanted).and_then(|at| parts.get(at));
        let identity = part(Beside::Identity).ok_or(Error::ServerError)?;
        let activity =
            part(Beside::Activity).map(|part| serde_json::from_str::<Option<Activity>>(part.get()));
        let queue =
            part(Beside::MessageQueue).map(|part| serde_json::from_str::<Option<DeviceQueue>>(part.get()));
        Ok(Self {
            twin: serde_json::from_str(twin.get()).map_err(damaged)?,
            identity: serde_json::from_str(identity.get()).map_err(damaged)?,
            activity: activity.transpose().map_err(damaged)?.flatten(),
            queue: queue.transpose().map_err(damaged)?.flatten(),
        })
    }
}

/// What a record has under the names that queries use.
fn recorded(row: &RawValue) -> Result<Document, Error> {
    let parts: Vec<Value> = serde_json::from_str(row.get()).map_err(damaged)?;
    let Some(Value::Object(mut members)) = parts.into_iter().next() else { return Err(Error::ServerError) };
    members.shift_remove("instance");
    let json = Value::Object(members);
    let keys = ["deviceId", "moduleId"].iter().filter_map(|name| json[*name].as_str().map(str::to_owned));
    Ok(Document { keys: keys.collect(), json })
}

fn keys_of(twin: &DeviceTwin) -> Vec<String> {
    let id = &twin.identity;
    let module = id.module_id.as_ref().map(|module_id| module_id.as_str().to_owned());
    [id.device_id.as_str().to_owned()].into_iter().chain(module).collect()
}

/// Says what kind of fault it is, not what stands there.
#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
pub(super) fn damaged(error: serde_json::Error) -> Error {
    Error::from(StoreError::Corrupt(format!("a record that a query read: {:?}", error.classify())))
}
