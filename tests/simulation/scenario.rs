//! What a seed decides before anything happens: which of the provider's unknown habits hold, which faults occur.

use crate::bugs::Bug;

/// SplitMix64: small, fast, and the same on every machine and with every release of every crate.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D);
        rng.next();
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// Uniform in `low..=high`.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    /// True in `per_mille` of a thousand cases.
    pub fn chance(&mut self, per_mille: i64) -> bool {
        self.range(0, 999) < per_mille
    }

    /// Uniform in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

pub const OVERLAP_MS: i64 = 20_000;
pub const EVERY_MS: i64 = 60_000;
pub const HOLD_MAX_MS: i64 = 8_000;
pub const IDLE_TIMEOUT_MS: i64 = 10_000;
/// Shorter than the longest time that the relay is away, to which an hour is added that clocks may disagree.
pub const WINDOW_MS: i64 = 30 * 60_000;
/// Where an inbox is not read for long: longer than an id is kept that a walk may bring again, so that ids are forgotten while
/// relays run.
pub const LONG_WINDOW_MS: i64 = 90 * 60_000;
pub const TRANSACTION_TIMEOUT_MS: i64 = 60_000;
/// Time in which faults occur; after it everything works, and [`QUIET_MS`] later all must be well.
pub const ACTIVE_MS: i64 = 6 * 60_000;
pub const QUIET_MS: i64 = 10 * 60_000;
/// When it begins, in Unix milliseconds by the provider's clock.
pub const START_MS: i64 = 1_768_480_000_000;

/// What the provider makes of `since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    Exclusive,
    Inclusive,
    Ignored,
}

/// Which control frames it sends after a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    Known,
    Other,
    None,
}

/// Everything that is drawn once.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub bug: Option<Bug>,
    /// Nothing happens that allows a stale record: P3 (b) is checked.
    pub orderly: bool,
    pub since: Since,
    pub vocabulary: Vocabulary,
    /// The log lists by when an event became visible instead of by its id.
    pub log_by_visibility: bool,
    pub page_events: usize,
    /// Bytes of pages that a walk keeps: few of them, or all.
    pub kept_bytes_max: usize,
    /// Pages of one walk.
    pub pages_max: usize,
    /// The log lists events of the same 5 s in any order.
    pub log_shuffled: bool,
    /// A cursor need not be in the log: what is older than it by its id is listed.
    pub compares_ids: bool,
    /// Below this many events the log begins at its newest again, and whether that ever ends.
    pub circle: Option<(usize, bool)>,
    /// Per mille of events of which a webhook brings a copy without the order's id.
    pub defective: i64,
    /// Some events hide where they end; then none has an id that is no cursor.
    pub missing_quotes: bool,
    /// Heartbeats come with what a connection brings.
    pub heartbeats: bool,
    pub events: i64,
    pub orders: i64,
    pub webhooks: bool,
    /// Per mille of events of which the second account has one with the same id.
    pub twins: i64,
    pub stream: bool,
    /// Per mille of events.
    pub late: i64,
    pub disorder: i64,
    pub lost_frames: i64,
    pub repeated: i64,
    pub odd: i64,
    pub rest_fails: i64,
    pub rest_ms: i64,
    /// Per mille of pages that hold fewer events than they could.
    pub short_pages: i64,
    /// Records of `orders` that one batch may hold.
    pub batch_records_max: usize,
    /// Per mille of attempts in which Kafka calls a good record invalid.
    pub invalid: i64,
    /// Records of `orders` that reach Kafka in time; a batch of more does not.
    pub in_time: usize,
    /// The control topic is compacted: what is older than this goes.
    pub cleaned_after_ms: Option<i64>,
    pub aborts: i64,
    pub doubts: i64,
    pub intake_bytes: usize,
    pub crashes: i64,
    pub takeovers: i64,
    pub broker_faults: i64,
    pub rest_faults: i64,
    pub cuts: i64,
    pub freezes: i64,
    pub foreign: i64,
    pub clock_off: bool,
    /// How often a wall clock is stepped, and a machine suspended.
    pub steps: i64,
    pub suspends: i64,
    /// The log and the replay forget events that are older.
    pub retention_ms: i64,
    /// The relay is away from then on for this long.
    pub absence: Option<(i64, i64)>,
    /// Per mille of ends of transactions whose first copy comes late.
    pub late_ends: i64,
    /// Ends are repeated sooner than librdkafka promises, so that only the second line of defence is left.
    pub hasty: bool,
    /// How often the broker comes back without its tail, and topics are emptied.
    pub lost_tails: i64,
    pub emptied_outputs: i64,
    pub emptied_controls: i64,
    /// Nodes of a cluster serve the shard, and not one relay.
    pub cluster: Option<Cluster>,
    /// Webhooks come by the inbox.
    pub inbox: Option<ByInbox>,
    /// How long ids and versions are remembered.
    pub window_ms: i64,
}

/// What befalls a cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub nodes: usize,
    /// How often the group moves the shard.
    pub moves: i64,
    /// Per mille of the moments of a relay at which its node is frozen.
    pub pauses: i64,
    /// Per mille of `init_transactions` of which a copy comes late.
    pub late_inits: i64,
}

/// What befalls an inbox.
#[derive(Clone, Debug)]
pub struct ByInbox {
    /// Per mille of webhooks that are appended twice, or appended and not answered.
    pub twice: i64,
    pub unanswered: i64,
    /// It forgets webhooks that are older.
    pub retention_ms: Option<i64>,
    /// From then on nothing can be read from it for this long.
    pub stall: Option<(i64, i64)>,
}

impl Scenario {
    pub fn draw(rng: &mut Rng, bug: Option<Bug>) -> Self {
        let orderly = rng.chance(250);
        // Half of the seeds have each kind of fault, so that the rarer ones also meet alone.
        let mut some = |most: i64| if rng.chance(500) { rng.range(1, most) } else { 0 };
        let unruly = |value: i64| if orderly { 0 } else { value };
        let late = unruly(some(300));
        let disorder = unruly(some(200));
        let lost_frames = unruly(some(300));
        let repeated = some(300);
        let odd = unruly(some(150));
        let rest_fails = unruly(some(200));
        let rest_faults = unruly(some(3));
        let aborts = some(150);
        let doubts = some(150);
        let crashes = some(4);
        let takeovers = some(2);
        let broker_faults = some(3);
        let cuts = some(6);
        let freezes = some(2);
        let foreign = some(3);
        let steps = some(4);
        let suspends = unruly(some(2));
        let batch_records_max = if some(1) == 1 { some(3).max(1) as usize } else { usize::MAX };
        let invalid = if some(1) == 1 { some(300) } else { 0 };
        let in_time = if some(4) == 4 { some(4).max(1) as usize } else { usize::MAX };
        let absence = (some(8) >= 6).then(|| (some(ACTIVE_MS).max(30_000), 60_000 * (30 + some(200))));
        let defective = unruly(some(300));
        let heartbeats = some(1) == 1;
        let circle = (unruly(some(4)) >= 3).then(|| (some(25).max(2) as usize, some(2) == 2));
        let intake_bytes = if some(4) == 4 { 4096 } else { 64 << 20 };
        let scenario = Self {
            bug,
            orderly,
            since: [Since::Exclusive, Since::Inclusive, Since::Ignored][rng.range(0, 2) as usize],
            vocabulary: [Vocabulary::Known, Vocabulary::Other, Vocabulary::None][rng.range(0, 2) as usize],
            log_by_visibility: rng.chance(300),
            page_events: rng.range(2, 30) as usize,
            kept_bytes_max: if rng.chance(300) { 3000 } else { 16 << 20 },
            pages_max: if !orderly && rng.chance(200) { rng.range(2, 8) as usize } else { 10_000 },
            log_shuffled: !orderly && rng.chance(200),
            compares_ids: rng.chance(300),
            circle,
            defective,
            missing_quotes: rng.chance(300),
            heartbeats,
            events: rng.range(8, 50),
            orders: rng.range(1, 6),
            webhooks: !orderly && rng.chance(700),
            twins: 0,
            stream: orderly || rng.chance(900),
            late,
            disorder,
            lost_frames,
            repeated,
            odd,
            rest_fails,
            rest_ms: if rng.chance(300) { 3000 } else { 200 },
            short_pages: if rng.chance(500) { rng.range(1, 500) } else { 0 },
            batch_records_max,
            invalid,
            in_time,
            cleaned_after_ms: None,
            aborts,
            doubts,
            intake_bytes,
            crashes,
            takeovers,
            broker_faults,
            rest_faults,
            cuts,
            freezes,
            foreign,
            clock_off: rng.chance(300),
            steps,
            suspends,
            retention_ms: if rng.chance(400) { 60_000 * rng.range(12, 60) } else { i64::MAX },
            absence,
            late_ends: 0,
            hasty: false,
            lost_tails: 0,
            emptied_outputs: 0,
            emptied_controls: 0,
            cluster: None,
            inbox: None,
            window_ms: WINDOW_MS,
        };
        // Drawn last, so that the rest of a seed stays what it was.
        let lag_ms = [WINDOW_MS + 30 * 60_000, 20_000][rng.range(0, 1) as usize];
        // What the clocks of hosts may disagree by is not in these lags.
        let cleaned = rng.chance(200) && !scenario.clock_off;
        let mut some = |per_mille: i64, most: i64| if rng.chance(per_mille) { rng.range(1, most) } else { 0 };
        let late_ends = some(400, 300);
        let hasty = some(150, 1) == 1 || bug == Some(Bug::TornTakenForWhole);
        let emptied_outputs = some(250, 2);
        // What Kafka loses of the relay's own records may be published again, and what it loses of others is gone.
        let lost_tails = unruly(some(250, 2));
        let emptied_controls = unruly(some(120, 1));
        // Where the marks are gone as well, a start knows no other clock than its own.
        let emptied_controls = if scenario.clock_off { 0 } else { emptied_controls };
        let twins = some(500, 300);
        let drawn = Self {
            twins,
            cleaned_after_ms: cleaned.then_some(lag_ms),
            late_ends,
            // That a transaction was torn is in the control topic's tail, which must not be lost: this line is the last.
            hasty: hasty && !orderly && lost_tails + emptied_controls == 0,
            lost_tails,
            emptied_outputs,
            emptied_controls,
            ..scenario
        };
        drawn.by_one_clock()
    }

    /// A floor that was raised goes by the clock of who wrote last, and by a cursor that webhooks do not move: clocks stay what
    /// they are where a relay may forget.
    fn by_one_clock(self) -> Self {
        let forgets = self.emptied_controls + self.lost_tails > 0 || self.cleaned_after_ms.is_some();
        Self { steps: if self.webhooks && forgets { 0 } else { self.steps }, ..self }
    }

    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Makes a cluster of a share of the seeds, and has webhooks come by the inbox in a few more.
    pub fn clustered(self, rng: &mut Rng) -> Self {
        let nodes = if rng.chance(350) { rng.range(2, 3) as usize } else { 0 };
        // In order is what comes from one relay alone.
        if self.orderly || (nodes == 0 && !rng.chance(150)) {
            return self;
        }
        let mut some = |most: i64| if rng.chance(500) { rng.range(1, most) } else { 0 };
        let cluster = Cluster { nodes, moves: some(8), pauses: some(250), late_inits: some(400) };
        let inbox = ByInbox {
            twice: some(200),
            unanswered: some(200),
            retention_ms: if some(3) == 3 { Some(1000 * some(60).max(5)) } else { None },
            stall: match (some(4), self.absence) {
                (0, _) => None,
                // Beyond the window.
                (1, None) => Some((some(ACTIVE_MS), LONG_WINDOW_MS + 60_000 * some(30))),
                _ => Some((some(ACTIVE_MS), 1000 * some(120))),
            },
        };
        let cluster = (nodes > 0).then_some(cluster);
        let hasty = self.hasty && cluster.is_none();
        // What a tail that was lost leaves of the memory goes by the clock of the node that wrote last.
        let lost_tails = if cluster.is_some() && self.clock_off { 0 } else { self.lost_tails };
        let twins = self.twins.max(some(500));
        let clustered = Self { cluster, inbox: Some(inbox), webhooks: true, twins, hasty, lost_tails, ..self };
        let is_long = clustered.absence.is_none() && clustered.long_time().is_some();
        let longer_ms = if is_long { LONG_WINDOW_MS - WINDOW_MS } else { 0 };
        let as_long = |lag_ms: i64| if lag_ms > WINDOW_MS { lag_ms + longer_ms } else { lag_ms };
        let cleaned_after_ms = clustered.cleaned_after_ms.map(as_long);
        Self { window_ms: WINDOW_MS + longer_ms, cleaned_after_ms, ..clustered }.by_one_clock()
    }

    /// A long time in which little happens: the relay is away, or nothing can be read from the inbox.
    pub fn long_time(&self) -> Option<(i64, i64)> {
        let stall = self.inbox.as_ref().and_then(|inbox| inbox.stall).filter(|(_, length)| *length > ACTIVE_MS);
        self.absence.or(stall)
    }

    /// From when to when nothing can be read from the inbox.
    pub fn stall(&self) -> Option<(i64, i64)> {
        let (from, length) = self.inbox.as_ref()?.stall?;
        Some((START_MS + from, START_MS + from + length))
    }

    /// Whether a process is frozen now and then.
    pub fn stands_still(&self) -> bool {
        let pauses = self.cluster.as_ref().map_or(0, |cluster| cluster.pauses);
        self.freezes + self.suspends + pauses > 0
    }

    /// When the faults end.
    pub fn active_until(&self) -> i64 {
        START_MS + ACTIVE_MS + self.long_time().map_or(0, |(_, length)| length)
    }
}
