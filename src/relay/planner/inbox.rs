//! How far the inbox is taken.

/// How far the inbox of a shard is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxMark {
    /// Everything before this offset is planned or settled; none where the inbox is not used.
    pub next: Option<i64>,
    /// What is not taken was appended after this time, by the relay's own time in milliseconds.
    pub unread_since_ms: Option<i64>,
}

impl InboxMark {
    fn max(self, other: Self) -> Self {
        let unread_since_ms = self.unread_since_ms.max(other.unread_since_ms);
        Self { next: self.next.max(other.next), unread_since_ms }
    }

    /// As a start begins to take at `next`, of an inbox in which nothing waits, or what was appended after `unread_ms`: nothing
    /// is forgotten before a first look has shown that nothing waits.
    pub fn begin(next: i64, unread_ms: Option<i64>) -> Self {
        Self { next: Some(next), unread_since_ms: Some(unread_ms.unwrap_or(i64::MIN)) }
    }
}

/// The mark of everything that is planned, and of what is committed or settled without a record.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    planned: InboxMark,
    committed: InboxMark,
}

/// What a plan does to the mark.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    before: InboxMark,
    after: InboxMark,
    /// The topic was made again, or lost records: the mark does not only grow.
    lost: bool,
}

impl Inbox {
    /// Begins at this mark.
    pub(super) fn begin(mark: InboxMark) -> Self {
        Self { planned: mark, committed: mark }
    }

    /// How far everything is planned.
    pub(super) fn planned(&self) -> InboxMark {
        self.planned
    }

    /// A plan begins.
    pub(super) fn plan(&self) -> Taken {
        Taken { before: self.planned, after: self.planned, lost: false }
    }

    /// The plan takes a delivery that came with this offset after it; none where it came by another way.
    pub(super) fn take(&mut self, plan: &mut Taken, next: Option<i64>) {
        self.planned.next = self.planned.next.max(next);
        plan.after = self.planned;
    }

    /// Everything before `next` was read at `read_ms`.
    pub(super) fn read(&mut self, plan: &mut Taken, next: i64, read_ms: i64) {
        self.planned = self.planned.max(InboxMark { next: Some(next), unread_since_ms: Some(read_ms) });
        plan.after = self.planned;
    }

    /// What was before `next` cannot be read any more; an earlier offset than the mark is one of a topic that was made again.
    pub(super) fn lose(&mut self, plan: &mut Taken, next: i64) {
        self.planned.next = Some(next);
        *plan = Taken { after: self.planned, lost: true, ..*plan };
    }

    /// The plan is committed, or settled without a record.
    pub(super) fn commit(&mut self, plan: Taken) {
        self.committed = if plan.lost { plan.after } else { self.committed.max(plan.after) };
    }

    /// The plan, the youngest, is taken back. What was settled without a record since it began is not planned again.
    pub(super) fn roll_back(&mut self, plan: Taken) {
        self.planned = plan.before.max(self.committed);
    }
}

impl Taken {
    /// How far the inbox is taken once the plan is committed.
    pub(super) fn next(self) -> Option<i64> {
        self.after.next
    }
}
