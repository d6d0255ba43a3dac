//! Import: the file in parts, some lines at a time. What was there of each line's identity is noted before any of them is done; those of
//! one step are about different devices, or different modules, so that each can be judged by that alone.

use std::collections::HashMap;
use std::sync::Arc;

use access::Caller;
use base::ids::IdentityId;
use base::{IfMatch, caps};
use bytes::Bytes;
use store::{Stored, retry_on_conflict};

use super::configurations::{self, ConfigurationLine};
use super::line::{self, Line, TwinChange};
use super::record::{Action, Before, Stage, UnderWay};
use super::rules::{self, ERRORS};
use super::run::{Fault, Part, Run};
use crate::device::{Change, Draft, waves};
use crate::error::Error;
use crate::hub::Hub;
use crate::identity::identity_key;
use crate::twin::{DeviceTwin, TwinReplacement};

/// A line that says something, as far as it could be read.
#[derive(Clone, Debug)]
enum Read {
    Identity(Result<Arc<Line>, Error>),
    Configuration(Result<Arc<ConfigurationLine>, Error>),
}

/// Lines that are done together.
struct Step {
    lines: Vec<Read>,
    /// Where the next one begins.
    until: u64,
    /// How long the file is.
    all: u64,
}

impl Run {
    /// Whether it is through.
    pub(super) async fn import(&mut self) -> Result<bool, Fault> {
        let Action::Import { blob, output, configurations, .. } = self.job.record.action.clone() else {
            return Ok(true);
        };
        let files = [(Stage::First, Some(blob)), (Stage::Configurations, configurations)];
        for (stage, blob) in files {
            let Some(blob) = blob.filter(|_| self.job.record.progress.stage <= stage) else { continue };
            if self.job.record.progress.stage < stage {
                let mut progress = self.progress();
                (progress.stage, progress.offset) = (stage, 0);
                self.write(progress).await?;
            }
            loop {
                if !self.goes_on().await? {
                    return Ok(false);
                }
                if self.import_some(&blob).await? {
                    break;
                }
            }
        }
        let files = self.hub.context().file_storage.clone();
        let (job_id, blocks) = (&self.job.record.job_id, self.job.record.progress.blocks);
        if blocks == 0 {
            // One of an import before would be taken for this one's.
            files.remove(&output, ERRORS).await?;
        } else {
            files.commit_blocks(&output, ERRORS, &rules::block_ids(job_id, blocks)).await?;
        }
        Ok(true)
    }

    /// Does some lines. Whether they were the last ones.
    pub(super) async fn import_some(&mut self, blob: &str) -> Result<bool, Fault> {
        let Action::Import { output, writes_twins, .. } = self.job.record.action.clone() else {
            return Ok(true);
        };
        let known = self.job.record.progress.under_way.clone();
        let step = self.next_step(blob, known.as_ref().map(|known| known.until)).await?;
        // Another file than before may have taken its place meanwhile: then nothing is known of its lines.
        let known = known.filter(|known| known.until == step.until && known.before.len() == step.lines.len());
        let is_again = known.is_some();
        let before = if let Some(known) = known {
            known.before
        } else {
            let before = self.look(&step.lines).await?;
            let mut progress = self.progress();
            progress.under_way = Some(UnderWay { until: step.until, before: before.clone() });
            self.write(progress).await?;
            before
        };
        let outcomes = self.do_lines(&step.lines, &before, is_again, writes_twins).await?;
        let mut progress = self.progress();
        let mut log = Vec::new();
        for (line, outcome) in step.lines.iter().zip(outcomes) {
            match outcome {
                Ok(()) => {}
                // It says nothing of the line: the step is done again.
                Err(error) if is_passing(&error) => return Err(error.into()),
                Err(error) => {
                    progress.failures += 1;
                    line::write_failure(&mut log, line.name(), &error);
                }
            }
        }
        if !log.is_empty() && (progress.blocks as usize) < caps::BLOCKS_OF_BLOB_MAX {
            let id = rules::block_id(&self.job.record.job_id, progress.blocks);
            self.hub.context().file_storage.put_block(&output, ERRORS, &id, Bytes::from(log)).await?;
            progress.blocks += 1;
        }
        (progress.offset, progress.under_way) = (step.until, None);
        (progress.done, progress.all) = (step.until, step.all);
        let is_last = step.until >= step.all;
        self.write(progress).await?;
        Ok(is_last)
    }

    /// The lines that come next, up to where a step before had come to, if it has been begun.
    async fn next_step(&mut self, blob: &str, until: Option<u64>) -> Result<Step, Fault> {
        let offset = self.job.record.progress.offset;
        let (found, all) = self.next_lines(blob, offset).await?;
        let mut step = Step { lines: Vec::new(), until: offset, all };
        let mut together = Together::default();
        for (from, text) in found {
            if until.is_some_and(|until| from >= until) {
                break;
            }
            let end = from + text.len() as u64;
            if let Some(text) = rules::text_of(&text, from == 0) {
                let read = if rules::is_too_long(text) {
                    let max = caps::REGISTRY_JOB_LINE_BYTES_MAX;
                    let why = format!("the line at byte {from} is longer than {max} bytes");
                    Read::Identity(Err(Error::DeserializationError(why)))
                } else {
                    self.read(text, from)
                };
                if !together.takes(&read) {
                    break;
                }
                step.lines.push(read);
            }
            step.until = end;
        }
        Ok(step)
    }

    fn read(&self, text: &[u8], from: u64) -> Read {
        let at = |error: Error| match error {
            Error::DeserializationError(why) => {
                Error::DeserializationError(format!("The line at byte {from} cannot be read: {why}"))
            }
            other => other,
        };
        match self.job.record.progress.stage {
            Stage::Configurations => {
                Read::Configuration(ConfigurationLine::read(text).map(Arc::new).map_err(at))
            }
            _ => Read::Identity(Line::read(text).map(Arc::new).map_err(at)),
        }
    }

    /// Lines with the bytes that they begin at, and how long the file is.
    async fn next_lines(&mut self, blob: &str, offset: u64) -> Result<(Vec<(u64, Bytes)>, u64), Fault> {
        let most = caps::REGISTRY_JOB_IDENTITIES_AT_ONCE;
        if let Some(part) = &self.part
            && part.blob == blob
            && let Some(skipped) = offset.checked_sub(part.from)
            && let Some(left) = usize::try_from(skipped).ok().filter(|skipped| *skipped < part.bytes.len())
        {
            let is_last = part.from + part.bytes.len() as u64 >= part.blob_bytes;
            if let Some((lines, _)) = rules::lines(&part.bytes.slice(left..), is_last, most)
                && (lines.len() == most || is_last)
            {
                return Ok((placed(lines, offset), part.blob_bytes));
            }
        }
        let Action::Import { input, .. } = &self.job.record.action else { return Ok((Vec::new(), 0)) };
        let files = &self.hub.context().file_storage;
        let found = files.read(input, blob, offset, caps::REGISTRY_JOB_BLOCK_BYTES).await?;
        let found = found
            .ok_or_else(|| Fault::File(format!("The blob '{blob}' is not in the input blob container.")))?;
        let is_last = offset + found.bytes.len() as u64 >= found.blob_bytes;
        let lines = rules::lines(&found.bytes, is_last, most).ok_or_else(|| {
            Fault::File(format!("The blob '{blob}' has no end of a line behind byte {offset}."))
        })?;
        let (bytes, blob_bytes) = (found.bytes, found.blob_bytes);
        self.part = Some(Part { blob: blob.to_owned(), from: offset, bytes, blob_bytes });
        Ok((placed(lines.0, offset), blob_bytes))
    }

    async fn look(&self, lines: &[Read]) -> Result<Vec<Before>, Error> {
        let mut before = Vec::with_capacity(lines.len());
        for line in lines {
            before.push(match line {
                Read::Identity(Ok(line)) => match line.identity() {
                    Some(id) => self.hub.look_at_identity(&id).await?,
                    None => Before::default(),
                },
                Read::Configuration(Ok(line)) => self.hub.look_at_configuration(line).await?,
                Read::Identity(Err(_)) | Read::Configuration(Err(_)) => Before::default(),
            });
        }
        Ok(before)
    }

    /// What becomes of each line. `is_again`: some may have been done before.
    async fn do_lines(
        &self,
        lines: &[Read],
        before: &[Before],
        is_again: bool,
        writes_twins: bool,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let work = |at: usize| {
            let (hub, line, before) = (self.hub.clone(), lines[at].clone(), before[at].clone());
            async move {
                match line {
                    Read::Identity(line) => {
                        hub.import_identity(&*line?, &before, is_again, writes_twins).await
                    }
                    Read::Configuration(line) => hub.import_configuration(&*line?, &before, is_again).await,
                }
            }
        };
        self.hub.in_waves(&waves(lines.iter().map(Read::touched)), work).await
    }
}

fn placed(lines: Vec<(usize, Bytes)>, offset: u64) -> Vec<(u64, Bytes)> {
    lines.into_iter().map(|(at, line)| (offset + at as u64, line)).collect()
}

/// What another try may be spared.
fn is_passing(error: &Error) -> bool {
    matches!(
        error,
        Error::ServerBusy
            | Error::ServerError
            | Error::Conflict
            | Error::ThrottlingException { .. }
            | Error::IotHubNotFound
    )
}

/// What the lines of a step are about.
#[derive(Default)]
struct Together(HashMap<String, Vec<Option<String>>>);

impl Together {
    /// Whether a line may be done with those before it: a device goes alone, modules of one go together, each once.
    fn takes(&mut self, line: &Read) -> bool {
        let (device_id, module_id) = match line {
            Read::Identity(Ok(line)) => (&line.item.device_id, line.item.module_id.clone()),
            // An id is alone among its kind.
            Read::Configuration(Ok(line)) => (&line.id, None),
            Read::Identity(Err(_)) | Read::Configuration(Err(_)) => return true,
        };
        let known = self.0.entry(device_id.clone()).or_default();
        let is_alone = module_id.is_none() || known.contains(&None) || known.contains(&module_id);
        let takes = known.is_empty() || !is_alone;
        if takes {
            known.push(module_id);
        }
        takes
    }
}

impl Read {
    /// Whatever touches the same is done one behind the other. Each configuration is felt by every twin.
    fn touched(&self) -> Vec<String> {
        match self {
            Self::Identity(Ok(line)) => line.item.touched(),
            Self::Configuration(Ok(_)) => vec![String::new()],
            Self::Identity(Err(_)) | Self::Configuration(Err(_)) => Vec::new(),
        }
    }

    fn name(&self) -> (&str, Option<&str>) {
        match self {
            Self::Identity(Ok(line)) => (&line.item.device_id, line.item.module_id.as_deref()),
            Self::Configuration(Ok(line)) => (&line.id, None),
            Self::Identity(Err(_)) | Self::Configuration(Err(_)) => ("", None),
        }
    }
}

impl Line {
    fn identity(&self) -> Option<IdentityId> {
        match self.item.change.as_ref().ok()? {
            Change::Write(draft, _) => Some(match &**draft {
                Draft::Device(spec) => IdentityId::device(spec.device_id.clone()),
                Draft::Module(spec, _) => IdentityId::module(spec.device_id.clone(), spec.module_id.clone()),
            }),
            Change::Delete(id, _) | Change::Twin(id, _, _) => Some(id.clone()),
        }
    }
}

impl Hub {
    async fn look_at_identity(&self, id: &IdentityId) -> Result<Before, Error> {
        let identity = self.identity(id).await?.map(|stored| stored.record);
        let twin = self.store().get::<DeviceTwin>(&identity_key(self.instance(), id)).await?;
        Ok(Before {
            identity: identity.map(|identity| (identity.generation_id, identity.etag)),
            twin: twin.map(|twin| twin.record.etag),
        })
    }

    async fn import_identity(
        &self,
        line: &Line,
        before: &Before,
        is_again: bool,
        writes_twins: bool,
    ) -> Result<(), Error> {
        let caller = Caller::system();
        let change = line.item.change.as_ref().map_err(Clone::clone)?;
        let id = line.identity().ok_or(Error::ServerError)?;
        let now = self.look_at_identity(&id).await?;
        let is_written = is_again && now.identity != before.identity;
        let is_twin_written =
            |if_match: &IfMatch| is_again && matches!(if_match, IfMatch::Tag(_)) && now.twin != before.twin;
        let may_write_twin = || if writes_twins { Ok(()) } else { Err(Error::IotHubUnauthorizedAccess) };
        match change {
            Change::Delete(..) if is_written => Ok(()),
            Change::Delete(..) => self.change_registry(&caller, &line.item).await,
            Change::Twin(_, _, if_match) => {
                may_write_twin()?;
                if is_twin_written(if_match) {
                    return Ok(());
                }
                self.change_registry(&caller, &line.item).await
            }
            Change::Write(..) => {
                if !is_written {
                    self.change_registry(&caller, &line.item).await?;
                }
                // A new one has its twin from the start.
                let Some(twin) = line.twin.as_ref().filter(|_| before.identity.is_some()) else {
                    return Ok(());
                };
                may_write_twin()?;
                if is_twin_written(&twin.if_match) {
                    return Ok(());
                }
                retry_on_conflict(async || {
                    let old = self.twin_if(&id, &twin.if_match).await?;
                    self.import_twin(old, twin).await
                })
                .await
            }
        }
    }

    /// What is as the line has it stays as it is, versions included.
    async fn import_twin(&self, old: Stored<DeviceTwin>, twin: &TwinChange) -> Result<(), Error> {
        let (tags, desired) = (&old.record.tags, &old.record.properties.desired.values);
        let replacement = TwinReplacement {
            tags: twin.tags.clone().unwrap_or_else(|| tags.clone()),
            desired: twin.desired.clone().unwrap_or_else(|| desired.clone()),
        };
        if (&replacement.tags, &replacement.desired) == (tags, desired) {
            return Ok(());
        }
        self.apply_replacement(old, &replacement).await.map(drop)
    }

    async fn look_at_configuration(&self, line: &ConfigurationLine) -> Result<Before, Error> {
        let Ok(id) = line.id.parse() else { return Ok(Before::default()) };
        let found = self.configuration(&id).await?;
        let identity = found.map(|stored| (stored.record.created.iso7(), stored.record.etag.0));
        Ok(Before { identity, twin: None })
    }

    async fn import_configuration(
        &self,
        line: &ConfigurationLine,
        before: &Before,
        is_again: bool,
    ) -> Result<(), Error> {
        let caller = Caller::system();
        let now = self.look_at_configuration(line).await?;
        if is_again && now.identity != before.identity {
            return Ok(());
        }
        match configurations::plan(line, now.identity.is_some())? {
            configurations::Plan::Put(spec, if_match) => {
                self.put_configuration(&caller, &spec, &if_match).await.map(drop)
            }
            configurations::Plan::Delete(id, if_match) => {
                self.delete_configuration(&caller, &id, &if_match).await
            }
        }
    }
}
