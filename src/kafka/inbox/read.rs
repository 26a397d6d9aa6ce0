//! Takes webhooks from a shard's partition of the inbox, from the offset in its checkpoint.

use super::begin::{Ends, appended_after, begin};
use super::{RECEIVED_AT, TRACEPARENT, TRACESTATE, Webhook};
use crate::clock::Moment;
use crate::config::{Config, Secrets};
use crate::kafka::blocking::{AskError, Cancel, CancelOnDrop, blocking, patiently_from_start};
use crate::kafka::client::{self, Context};
use crate::kafka::errors::{self, Class, StartError};
use crate::kafka::recover::headers_of;
use crate::kafka::scan::{self, Reader, Stretch};
use crate::kafka::shard::Shard;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::borrow::Cow;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Webhooks read ahead of the caller. With librdkafka's own queue (4 MiB) the bound on memory.
const AHEAD: usize = 256;
/// How soon the reading thread notices that nobody listens any more.
const NOTICE: Duration = Duration::from_millis(50);
/// How often it is looked where the inbox ends.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Records that are there and do not come for this long are asked for again.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How many offsets are read first in search of the oldest webhook that is not taken; then doubled.
const STEP: i64 = 64;

/// Something about the inbox, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A webhook.
    Webhook {
        /// The webhook; an account without a name is named by the relay's.
        webhook: Webhook<'static>,
        /// The offset behind it.
        next: i64,
    },
    /// A look at the end of the inbox.
    Looked {
        /// The offset of the next record that is read.
        next: i64,
        /// Offsets between that and the end.
        behind: u64,
        /// When the end was asked for.
        at: Moment,
    },
    /// Records were deleted before they were read; it goes on with what is left.
    Lost {
        /// The offset of the oldest one that is left.
        next: i64,
    },
}

/// The inbox of a shard as a start finds it.
#[derive(Debug)]
pub struct Opened {
    /// What is read from it.
    pub inbox: Inbox,
    /// The first offset that is read.
    pub next: i64,
    /// Records were deleted before they were read.
    pub lost: bool,
    /// What is not taken was appended after this time, in Unix milliseconds by any clock; none where everything is taken.
    pub unread_ms: Option<i64>,
}

/// A shard's partition of the inbox that is being read; dropping it ends that.
#[derive(Debug)]
pub struct Inbox {
    read: mpsc::Receiver<Result<Read, StartError>>,
    _cancel: CancelOnDrop,
}

impl Inbox {
    /// Begins to read behind the offset `from` of the shard's checkpoint; without one, with the oldest record there is. Waits
    /// for a Kafka that does not answer; dropping the future ends that.
    ///
    /// # Errors
    ///
    /// When Kafka refuses.
    pub async fn open(
        config: &Config,
        secrets: &watch::Receiver<Secrets>,
        shard: Shard,
        from: Option<i64>,
    ) -> Result<Opened, StartError> {
        let config = config.clone();
        let mut renewed = secrets.clone();
        let secrets = renewed.borrow_and_update().clone();
        let found = blocking(move |cancel| {
            let reader = Reader::open(&config, &secrets)?;
            let ask = || survey(&reader, &config, shard, from, cancel);
            let (next, lost, unread_ms) = patiently_from_start(cancel, ask)?;
            let consumer = open(&config, &secrets, shard, next)?;
            Ok((config, consumer, next, lost, unread_ms))
        });
        let (config, consumer, next, lost, unread_ms) = found.await?;
        let cancel = Cancel::default();
        let guard = CancelOnDrop(cancel.clone());
        let (sender, read) = mpsc::channel(AHEAD);
        let moved = Moved::default();
        // As with `consume`: the runtime waits for it, and nobody asks how it ended.
        drop(tokio::task::spawn_blocking(move || {
            Following { config, secrets: renewed, consumer, shard, next, moved, sender }.run(&cancel)
        }));
        Ok(Opened { inbox: Self { read, _cancel: guard }, next, lost, unread_ms })
    }

    /// What comes next. An error ends the reading; `None` after it. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Read, StartError>> {
        self.read.recv().await
    }
}

#[cfg(test)]
impl Inbox {
    /// One without Kafka, and where a test sends what is read.
    pub(crate) fn scripted() -> (Self, mpsc::Sender<Result<Read, StartError>>) {
        let (sender, read) = mpsc::channel(AHEAD);
        (Self { read, _cancel: CancelOnDrop(Cancel::default()) }, sender)
    }
}

/// Where to begin, whether something was deleted unread, and after what time that was appended which is to be read.
fn survey(
    reader: &Reader,
    config: &Config,
    shard: Shard,
    from: Option<i64>,
    cancel: &Cancel,
) -> Result<(i64, bool, Option<i64>), AskError> {
    let topic = &config.kafka.topics.inbox;
    let ends =
        (reader.offset(topic, shard.number, Offset::Beginning)?, reader.offset(topic, shard.number, Offset::End)?);
    let (Offset::Offset(low), Offset::Offset(high)) = ends else {
        return Err(AskError::Away(format!("the ends of {topic}[{shard}] are not known")));
    };
    let (next, lost) = begin(from, Ends { low, high });
    let mut start = next;
    let mut step = STEP;
    let mut oldest_ms = None;
    while start < high && oldest_ms.is_none() {
        let end = start.saturating_add(step).min(high);
        let stretch = Stretch { topic: topic.clone(), partition: shard.number, start, end };
        let each = |message: &BorrowedMessage<'_>| {
            oldest_ms = oldest_ms.or(message.timestamp().to_millis());
        };
        reader.read(&stretch, cancel, each, |_, _| ())?;
        start = end;
        step = step.saturating_mul(2);
    }
    Ok((next, lost, oldest_ms.map(appended_after)))
}

fn open(config: &Config, secrets: &Secrets, shard: Shard, next: i64) -> Result<BaseConsumer<Context>, AskError> {
    let mut settings = client::consumer(config, secrets, "read_committed");
    // What was deleted unread is reported, and not passed over.
    settings.set("auto.offset.reset", "error");
    let consumer = BaseConsumer::from_config_and_context(&settings, Context::of(secrets))
        .map_err(|error| StartError::Settings(format!("kafka.options: {error}")))?;
    scan::meet(&consumer, &config.kafka.topics.inbox);
    assign(&consumer, &config.kafka.topics.inbox, shard, next)
        .map_err(|error| scan::trouble(config, &consumer, &error, &config.kafka.topics.inbox))?;
    Ok(consumer)
}

fn assign(consumer: &BaseConsumer<Context>, topic: &str, shard: Shard, next: i64) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, shard.number, Offset::Offset(next))?;
    consumer.assign(&list)
}

/// The reading thread.
struct Following {
    config: Config,
    secrets: watch::Receiver<Secrets>,
    consumer: BaseConsumer<Context>,
    shard: Shard,
    /// The offset behind the last record that was read.
    next: i64,
    moved: Moved,
    sender: mpsc::Sender<Result<Read, StartError>>,
}

/// When the reading moved last, as far as looks show that follow each other closely. Pure.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    to: i64,
    at: Option<Instant>,
    looked: Option<Instant>,
}

impl Moved {
    /// What a look found: the next offset, and how many there are from it on. Whether those have not come for too long. Where
    /// Kafka or the relay was silent in between, the time begins again.
    fn has_stalled(&mut self, next: i64, behind: u64, now: Instant) -> bool {
        let follows = self.looked.is_some_and(|looked| now.duration_since(looked) <= 2 * LOOK_EVERY);
        let at = self.at.filter(|_| follows && behind > 0 && next == self.to);
        let stalled = at.is_some_and(|at| now.duration_since(at) >= STALLED_AFTER);
        *self = Self { to: next, at: at.filter(|_| !stalled).or(Some(now)), looked: Some(now) };
        stalled
    }
}

impl Following {
    /// Faults that pass are librdkafka's to repeat; it goes on where it was.
    fn run(mut self, cancel: &Cancel) {
        let mut looked: Option<Instant> = None;
        while !cancel.is_set() {
            if self.secrets.has_changed().unwrap_or(false) {
                self.renew();
            }
            let item = match self.consumer.poll(NOTICE) {
                Some(Ok(message)) => {
                    self.next = message.offset().saturating_add(1);
                    Some(Ok(Read::Webhook { webhook: webhook(&message), next: self.next }))
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None => None,
                Some(Err(error)) => self.trouble(&error),
            };
            if !self.tell(item) {
                return;
            }
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
                looked = Some(Instant::now());
                let looked = self.look().map(Ok);
                if !self.tell(looked) {
                    return;
                }
            }
        }
    }

    /// False when nobody listens any more, or nothing more will come.
    fn tell(&self, item: Option<Result<Read, StartError>>) -> bool {
        let Some(item) = item else { return true };
        let last = item.is_err();
        self.sender.blocking_send(item).is_ok() && !last
    }

    /// Goes on with new secrets; where that fails, the old client reports what is wrong.
    fn renew(&mut self) {
        let secrets = self.secrets.borrow_and_update().clone();
        match open(&self.config, &secrets, self.shard, self.next) {
            Ok(consumer) => self.consumer = consumer,
            Err(error) => tracing::debug!(?error, "the inbox is read with the old secrets"),
        }
    }

    fn trouble(&mut self, error: &KafkaError) -> Option<Result<Read, StartError>> {
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                self.begin_again().then_some(Ok(Read::Lost { next: self.next }))
            }
            Some(Code::GroupAuthorizationFailed) => None,
            Some(Code::Authentication) if self.consumer.context().awaits_token() => None,
            Some(code) if !errors::is_denied(code) && errors::classify(code) != Class::Stop => None,
            _ => {
                let topic = &self.config.kafka.topics.inbox;
                Some(Err(StartError::from(scan::trouble(&self.config, &self.consumer, error, topic))))
            }
        }
    }

    /// Goes on with the oldest record there is; false where Kafka does not answer which that is, so that it is asked
    /// again.
    fn begin_again(&mut self) -> bool {
        let topic = self.config.kafka.topics.inbox.clone();
        let Ok((low, high)) = self.consumer.fetch_watermarks(&topic, self.shard.number, scan::ASK_TIMEOUT) else {
            return false;
        };
        let (next, lost) = begin(Some(self.next), Ends { low, high });
        self.next = next;
        assign(&self.consumer, &topic, self.shard, next).is_ok() && lost
    }

    /// Where the inbox ends now, for readers of what is committed.
    fn look(&mut self) -> Option<Read> {
        let at = Moment::now();
        let topic = self.config.kafka.topics.inbox.as_str();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, self.shard.number, Offset::End).ok()?;
        let found = self.consumer.offsets_for_times(list, scan::ASK_TIMEOUT).ok()?;
        let Offset::Offset(end) = found.elements().first()?.offset() else { return None };
        let position = self.consumer.position().ok()?;
        // It passes what no record shows, such as an aborted transaction.
        if let Some(Offset::Offset(position)) = position.elements().first().map(|element| element.offset()) {
            self.next = self.next.max(position);
        }
        let behind = u64::try_from(end.saturating_sub(self.next)).unwrap_or_default();
        if self.moved.has_stalled(self.next, behind, Instant::now()) {
            tracing::warn!(shard = self.shard.number, next = self.next, behind, "inbox stalled: asking again");
            assign(&self.consumer, topic, self.shard, self.next).ok()?;
        }
        Some(Read::Looked { next: self.next, behind, at })
    }
}

fn webhook(message: &BorrowedMessage<'_>) -> Webhook<'static> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut received_at_ms = None;
    let (mut parent, mut state) = (None, String::new());
    headers_of(message, |name, value| {
        let value = text(value.unwrap_or_default());
        match name {
            RECEIVED_AT => received_at_ms = value.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
            TRACEPARENT => parent = Some(value),
            TRACESTATE => state = value,
            _ => {}
        }
    });
    Webhook {
        account: Cow::Owned(text(message.key().unwrap_or_default())),
        bytes: Cow::Owned(message.payload().unwrap_or_default().to_vec()),
        received_at_ms: received_at_ms.or(message.timestamp().to_millis()).unwrap_or_default(),
        trace: parent.map(|parent| (Cow::Owned(parent), Cow::Owned(state))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_do_not_come_are_asked_for_again_once_in_a_while() {
        let began = Instant::now();
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        let mut moved = Moved::default();
        let mut looks = |looks: &[(u64, i64, u64)]| {
            let stalled = looks.iter().map(|(at, next, behind)| moved.has_stalled(*next, *behind, after(*at)));
            stalled.collect::<Vec<_>>()
        };
        let every_five = |from: u64, to: u64, next: i64, behind: u64| -> Vec<(u64, i64, u64)> {
            (from..=to).step_by(5).map(|at| (at, next, behind)).collect()
        };
        assert!(!looks(&every_five(0, 60, 5, 0)).contains(&true), "nothing is there");
        assert!(!looks(&every_five(65, 85, 5, 2)).contains(&true), "not long enough");
        assert!(!looks(&every_five(90, 115, 6, 1)).contains(&true), "it moves");
        assert_eq!(looks(&every_five(120, 155, 6, 9)), [true, false, false, false, false, false, true, false]);
        assert_eq!(looks(&[(200, 6, 9), (205, 6, 9)]), [false; 2], "nobody looked for a while");
    }
}
