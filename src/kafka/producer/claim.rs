//! The claim of a name: fence, look whose topics they are, see that they may be written to, commit the claim.

use super::{Writer, WriterSetup, attempted};
use crate::clock::now_ms;
use crate::config::Config;
use crate::kafka::blocking::AskError;
use crate::kafka::checkpoint::{Checkpoint, Predecessor};
use crate::kafka::errors::StartError;
use crate::kafka::outage::Outage;
use crate::kafka::owner::{self, OTHERS_WITHIN_MS};
use crate::kafka::recover::Memory;
use crate::kafka::run::Run;
use crate::kafka::settlement::{self, Claim, End, Next};
use crate::kafka::transaction::Failure;
use crate::kafka::transactional::Early;
use crate::kafka::verdict::Broker;
use crate::kafka::{client, group, recover, scan};
use crate::labels::Topic;
use crate::telemetry::ReadingBack;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The last owner of a shard has this long to leave it.
const LEAVES_WITHIN: Duration = Duration::from_secs(3);

/// Between two looks whether it has, or whether a shard is assigned again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Fences every earlier producer of the name, reads the newest checkpoint and commits the claim.
pub(in crate::kafka) fn claim(setup: WriterSetup) -> Result<(Writer, Option<Predecessor>), AskError> {
    let outage = Outage::new(Arc::clone(&setup.health), Arc::clone(&setup.metrics));
    let outage = outage.asking(&setup.config, &setup.secrets, setup.topics.known(), &setup.cancel);
    let Config { name, provider, .. } = &setup.config;
    let node = setup.member.as_ref().map(|member| member.node.as_str());
    let run = Run::new(uuid::Uuid::new_v4().to_string(), name, provider.environment.as_str());
    let run = run.on(name, setup.shard, node);
    let mut claim = Claim::new(run.id().to_owned());
    let (producer, carried) = Default::default();
    let mut writer = Writer { setup, producer, carried, run, outage, reader: None, seen: None };
    if writer.setup.member.is_some() {
        let newest = writer.decide()?;
        claim = claim.decided_on(newest.as_ref());
    }
    let mut rehearsed = false;
    let mut next = Next::Fence;
    loop {
        while !settlement::claims(&next, writer.owns()) {
            writer.setup.cancel.wait(LOOK_AGAIN_AFTER)?;
        }
        next = match next {
            Next::Fence | Next::Look => {
                if !writer.renew()? {
                    continue;
                }
                let Survey { predecessor, others, holds } = writer.patiently(|writer| writer.survey())?;
                let next = claim.fenced(predecessor.as_ref().map(|found| found.checkpoint.clone()));
                if next == Next::Attempt {
                    let marks = predecessor.map(|found| found.marks).unwrap_or_default();
                    writer.run.follow(claim.predecessor.as_ref(), marks);
                    let config = &writer.setup.config;
                    let own = claim.predecessor.iter().map(|checkpoint| (config.name.clone(), checkpoint.clone()));
                    owner::check(config, own.chain(others), holds.as_deref())?;
                }
                next
            }
            Next::Attempt if !rehearsed => {
                rehearsed = true;
                let may_write = writer.may_write()?;
                writer.replace_if_spent();
                if may_write && writer.producer.is_some() { Next::Attempt } else { Next::Fence }
            }
            Next::Attempt => {
                let failure = writer.claim(claim.predecessor.as_ref()).err();
                writer.replace_if_spent();
                let (wait, next) = claim.attempted(attempted(failure.as_ref(), writer.carried.ends().asked()));
                let detail = failure.as_ref().map_or("", Failure::detail);
                match (&failure, &next) {
                    (Some(Failure::Cancelled), _) => return Err(AskError::Cancelled),
                    (_, Next::Refused(_)) => return Err(writer.tiny_control(detail).into()),
                    (_, Next::Stop(_)) => return Err(StartError::Failed(detail.to_owned()).into()),
                    (Some(_), _) => writer.refused_at_start()?,
                    (None, _) => {}
                }
                writer.pause(wait, detail)?;
                next
            }
            Next::Committed(_) => break,
            Next::Stop(End::Elsewhere) => return Err(StartError::Elsewhere.into()),
            Next::Refused(_) | Next::Stop(_) => return Err(AskError::Away("the claim has no way on".to_owned())),
        };
    }
    writer.outage.over();
    let marks = writer.run.marks().clone();
    Ok((writer, claim.predecessor.map(|checkpoint| Predecessor { checkpoint, marks })))
}

/// What a claim has to know before it is committed.
#[derive(Default)]
struct Survey {
    predecessor: Option<Predecessor>,
    /// The newest checkpoints of the last minutes of other relays, by name.
    others: BTreeMap<String, Checkpoint>,
    /// An output topic that holds records although there is no predecessor.
    holds: Option<String>,
}

impl Writer {
    /// In a cluster: what the claim is decided on, once the last owner has left, where that one lives.
    fn decide(&mut self) -> Result<Option<Checkpoint>, AskError> {
        let began = Instant::now();
        self.reader = self.setup.early.as_mut().and_then(Early::reader);
        let reader = self.reader()?;
        let WriterSetup { config, cancel, member, shard, .. } = &self.setup;
        let (config, cancel, shard) = (config.clone(), cancel.clone(), *shard);
        let node = member.as_ref().map(|member| member.node.clone()).unwrap_or_default();
        let memory = Memory { control: &config.kafka.topics.control, name: &config.name, shard };
        let mut members = None;
        let newest = loop {
            let newest = self.patiently(|_| recover::newest_stable(&reader, memory, &cancel))?;
            let newest = newest.map(|newest| newest.checkpoint);
            let (Some(checkpoint), true) = (&newest, began.elapsed() < LEAVES_WITHIN) else { break newest };
            // Where the coordinator does not answer who lives, nobody is waited for.
            let members = members.get_or_insert_with(|| group::members(&config, &reader).unwrap_or_default());
            if !settlement::waits_for(checkpoint, &node, members) {
                break newest;
            }
            cancel.wait(LOOK_AGAIN_AFTER)?;
        };
        self.reader = Some(reader);
        Ok(newest)
    }

    /// At start: every topic may be written to, or every permission that is missing is named. `false` when something else went
    /// wrong: the producer is of no further use, and the claim will meet it again and wait for its end.
    fn may_write(&mut self) -> Result<bool, AskError> {
        if self.setup.broker == Broker::Embedded {
            return Ok(true);
        }
        let names = self.setup.config.kafka.topics.clone();
        let named: Vec<(Topic, &str)> =
            Topic::ALL.into_iter().filter_map(|topic| Some((topic, names.name(topic)?))).collect();
        match self.rehearse(&named.iter().map(|(topic, _)| *topic).collect::<Vec<_>>()) {
            Ok(()) => return Ok(true),
            Err(Failure::Cancelled) => return Err(AskError::Cancelled),
            Err(_) => {}
        }
        let mut lacking = Vec::new();
        for (topic, name) in named {
            // A refused transaction leaves nothing to go on with.
            if !self.renew()? {
                return Ok(false);
            }
            match self.rehearse(&[topic]) {
                Err(Failure::Cancelled) => return Err(AskError::Cancelled),
                Err(_) => lacking.extend(self.denied(name).map(|error| error.to_string())),
                Ok(()) => {}
            }
        }
        if lacking.is_empty() { Ok(false) } else { Err(StartError::Denied(lacking.join("\n")).into()) }
    }

    fn rehearse(&mut self, topics: &[Topic]) -> Result<(), Failure> {
        let key = format!("{}/check", self.setup.config.name);
        let began = Instant::now();
        self.with_work(&[], |work, outage| {
            work.rehearse(topics, &key, &mut |detail| outage.silent_since(began, detail))
        })
    }

    /// Commits the first transaction of this run.
    fn claim(&mut self, predecessor: Option<&Checkpoint>) -> Result<(), Failure> {
        let (batch, checkpoint) = self.run.claim(predecessor, now_ms());
        self.attempt(&batch, &checkpoint)
    }

    /// What a claim has to know of the control topic and of the others.
    fn survey(&mut self) -> Result<Survey, AskError> {
        if self.is_only_run() {
            return Ok(Survey::default());
        }
        let reader = self.reader()?;
        let WriterSetup { config, cancel, topics, starts_afresh, health, shard, .. } = &self.setup;
        let control = &config.kafka.topics.control;
        // What it knew of the partition's leader was perhaps learned before the fence.
        scan::meet(reader.client(), control);
        let mut waiting = |place: &str| {
            let waiting_for = Some(recover::foreign_transaction(place));
            health.set_reading_back(Some(ReadingBack { done: 0, total: 0, waiting_for }));
        };
        let memory = Memory { control, name: &config.name, shard: *shard };
        let predecessor = recover::predecessor(&reader, memory, !config.accounts.is_empty(), cancel, &mut waiting)?;
        let since_ms = now_ms().saturating_sub(OTHERS_WITHIN_MS);
        let others = recover::others(&reader, memory, since_ms, cancel)?;
        let holds = if owner::misses_a_memory(predecessor.is_some(), *starts_afresh) {
            let outputs = topics.reports.iter().filter(|report| !report.topic.is_of_shards());
            let outputs = outputs.filter_map(|report| Some((report.name.as_str(), report.actual.as_ref()?.partitions)));
            recover::holds_records(&reader, &outputs.collect::<Vec<_>>(), cancel, &mut waiting)?.map(str::to_owned)
        } else {
            None
        };
        // Where one shard has a memory, the others begin with what that one has published. It is asked for last: a shard claims
        // before it publishes, perhaps while this one looks.
        let shards = [(control.as_str(), shard.count)];
        let is_known = holds.is_some()
            && shard.count > 1
            && recover::holds_records(&reader, &shards, cancel, &mut waiting)?.is_some();
        let holds = holds.filter(|_| !is_known);
        self.reader = Some(reader);
        Ok(Survey { predecessor, others, holds })
    }

    pub(super) fn tiny_control(&self, detail: &str) -> StartError {
        StartError::Settings(format!(
            "Kafka refuses a checkpoint for its size ({detail}); raise max.message.bytes of {} to its default of {}",
            self.setup.config.kafka.topics.control,
            client::MESSAGE_BYTES_DEFAULT
        ))
    }

    /// At start a missing permission is reported at once, not waited for. The claim writes to the control topic alone.
    fn refused_at_start(&self) -> Result<(), StartError> {
        self.denied(&self.setup.config.kafka.topics.control).map_or(Ok(()), Err)
    }
}
