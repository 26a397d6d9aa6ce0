//! Mistakes that the simulation must find, each built into the model around the production code, never into that.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// An id counts as known when it arrives instead of when its record is committed.
    MarkOnArrival,
    /// A checkpoint holds marks of what is planned after its batch.
    CursorBeforeCommit,
    /// A walk is done when it has reached the mark, before it has handed anything on.
    GapClosedBeforeSettled,
    /// Window and versions are read before the predecessor is fenced.
    WarmStartBeforeFencing,
    /// A commit of unknown outcome is resolved by its number alone.
    CommitWithoutRun,
    /// Reading the control topic ends at the last stable offset.
    StableOffsetAsEnd,
    /// Reading back begins a window before now instead of before the last checkpoint.
    WindowFromNow,
    /// A walk begins an overlap before the cursor.
    OverlapFromCursor,
    /// A refused batch is sent again as it was.
    ResendWithoutHalving,
    /// The ids of a batch that failed stay claimed.
    ReleaseForgotten,
    /// Nothing is marked stale.
    StaleCheckOff,
    /// Live frames do not wait for the walk.
    HoldDropped,
    /// A log that no longer reaches back is taken for all there is.
    LossUnsaid,
    /// The future begins ahead of the provider's clock alone, which is known by its distance to our wall clock.
    FutureByOneClock,
    /// A page that is asked for again and comes shorter is taken for all that it was.
    ShortPageTaken,
    /// An idle checkpoint holds the marks of a plan that is not committed.
    IdleCheckpointOfThePlan,
    /// A dead letter that is read back counts as a version, whatever its id is.
    DeadLetterGivesAVersion,
    /// A log whose cursors lead in a circle is taken to end there.
    CircleTrusted,
    /// The mark counts as reached at the first page that ends in an event older than it.
    OneOldEventReaches,
    /// A page of which one event is no JSON is asked for until it is whole.
    PoisonStopsThePage,
    /// A walk that breaks hands nothing on.
    BrokenWalkDropsWhatItHas,
    /// An event of which a defective copy became a dead letter counts as known.
    DeadLetterSpendsTheId,
    /// The last id of a page is its cursor, whatever it looks like.
    AnyIdIsACursor,
    /// Every frame that is no event is handed to the relay.
    HeartbeatIsADelivery,
    /// A record that Kafka calls invalid once becomes a dead letter.
    InvalidAtOnce,
    /// A batch that does not reach Kafka in time is sent again as it was.
    SlowSentWhole,
    /// A journal that is not whole is taken for all there was.
    JournalTrusted,
    /// The absence before a start is measured by the wall clock, the window's age by the steady one.
    ResumeByTheWallClock,
    /// A producer is kept whose last end may have been asked for twice.
    LateEndTrusted,
    /// A transaction that a late end tore is taken for whole, because its checkpoint is committed.
    TornTakenForWhole,
    /// Checkpoints that Kafka lost are taken for a takeover.
    LostTailIsARival,
    /// The run before ours is taken for one that took over, where ours is lost to its claim.
    PredecessorIsARival,
    /// What was published is what the output topics still hold.
    MemoryOfTheOutputs,
    /// Ids of two accounts are one and the same where they are equal.
    WindowWithoutAccount,
    /// A control topic without a checkpoint is taken for that of a first start, whatever the output topics hold.
    EmptiedIsAFirstStart,
    /// A node claims whatever it finds, also when another one claimed since it decided to.
    ClaimOnOldKnowledge,
    /// A claim fences although the group has taken the shard away since.
    ClaimsWhatWasTaken,
    /// A node stops for a run of another node.
    FencedNodeStops,
    /// A node gives its shard 0 another transactional id than a relay outside the cluster does.
    ShardZeroByAnotherId,
    /// An id's window ends while a copy waits in the inbox.
    ForgetsWhileUnread,
    /// What a refused batch took from the inbox counts as taken.
    InboxNotRolledBack,
    /// A checkpoint counts as taken from the inbox what is planned after its batch.
    InboxAheadOfItsBatch,
}

impl Bug {
    /// The seed at which the search begins: near one that finds it, where that is a rare one.
    pub fn search_from(self) -> u64 {
        match self {
            Self::WindowFromNow => 9_000,
            Self::ForgetsWhileUnread => 600,
            _ => 0,
        }
    }

    pub const ALL: [Self; 42] = [
        Self::MarkOnArrival,
        Self::CursorBeforeCommit,
        Self::GapClosedBeforeSettled,
        Self::WarmStartBeforeFencing,
        Self::CommitWithoutRun,
        Self::StableOffsetAsEnd,
        Self::WindowFromNow,
        Self::OverlapFromCursor,
        Self::ResendWithoutHalving,
        Self::ReleaseForgotten,
        Self::StaleCheckOff,
        Self::HoldDropped,
        Self::LossUnsaid,
        Self::FutureByOneClock,
        Self::ShortPageTaken,
        Self::IdleCheckpointOfThePlan,
        Self::DeadLetterGivesAVersion,
        Self::CircleTrusted,
        Self::OneOldEventReaches,
        Self::PoisonStopsThePage,
        Self::BrokenWalkDropsWhatItHas,
        Self::DeadLetterSpendsTheId,
        Self::AnyIdIsACursor,
        Self::HeartbeatIsADelivery,
        Self::InvalidAtOnce,
        Self::SlowSentWhole,
        Self::JournalTrusted,
        Self::ResumeByTheWallClock,
        Self::LateEndTrusted,
        Self::TornTakenForWhole,
        Self::LostTailIsARival,
        Self::PredecessorIsARival,
        Self::MemoryOfTheOutputs,
        Self::EmptiedIsAFirstStart,
        Self::WindowWithoutAccount,
        Self::ClaimOnOldKnowledge,
        Self::ClaimsWhatWasTaken,
        Self::FencedNodeStops,
        Self::ShardZeroByAnotherId,
        Self::ForgetsWhileUnread,
        Self::InboxNotRolledBack,
        Self::InboxAheadOfItsBatch,
    ];
}
