use super::*;

fn newest(run: &str, commit: u64) -> Option<Newest> {
    let checkpoint = Checkpoint::new(run.to_owned(), commit, String::new(), "devnet");
    Some(Newest { checkpoint, written_at_ms: 77 })
}

fn settlement(batch: Shape) -> Settlement {
    Settlement::new("ours".to_owned(), 4, batch)
}

const AT: Duration = Duration::ZERO;
const DOUBT: Attempted = Attempted::InDoubt { fenced: false, asked: true };
const FENCED: Attempted = Attempted::InDoubt { fenced: true, asked: true };

#[test]
fn the_newest_checkpoint_shows_which_of_four_things_happened() {
    let earlier = ["before".to_owned()];
    let says = |newest: Option<Newest>| stands(newest.as_ref(), "ours", &earlier, 4, 5);
    assert_eq!(says(newest("ours", 5)), Standing::Committed(77));
    assert_eq!(says(newest("ours", 4)), Standing::SendAgain);
    assert_eq!(says(newest("theirs", 5)), Standing::TakenOver, "the same number of another run");
    assert_eq!(says(newest("theirs", 4)), Standing::TakenOver);
    assert_eq!(says(newest("before", 9)), Standing::Lost, "our claim is gone, and nobody took over");
    assert_eq!(says(newest("ours", 3)), Standing::Lost);
    assert_eq!(says(newest("ours", 6)), Standing::Lost);
    assert_eq!(says(None), Standing::Lost);
}

#[test]
fn a_commit_in_doubt_is_settled_behind_a_new_producer() {
    for (found, next) in [
        (newest("ours", 5), Next::Committed(Some(77))),
        (newest("ours", 4), Next::Attempt),
        (newest("theirs", 1), Next::Stop(End::TakenOver)),
        (newest("ours", 3), Next::Stop(End::Lost)),
        (None, Next::Stop(End::Lost)),
    ] {
        let mut settlement = settlement(Shape::Several);
        assert_eq!(settlement.begin(true), Next::Attempt);
        assert_eq!(settlement.attempted(DOUBT, true, AT), (Wait::No, Next::Fence));
        assert_eq!(settlement.fenced(found.as_ref()), next);
    }
}

/// The producer was replaced and has asked for nothing since: whatever committed the checkpoint was not asked to.
#[test]
fn a_commit_that_was_never_asked_for_is_torn() {
    let mut torn = settlement(Shape::Several);
    assert_eq!(torn.begin(false), Next::Fence);
    assert_eq!(torn.fenced(newest("ours", 4).as_ref()), Next::Attempt);
    assert_eq!(torn.attempted(Attempted::InDoubt { fenced: false, asked: false }, true, AT), (Wait::No, Next::Fence));
    assert_eq!(torn.fenced(newest("ours", 5).as_ref()), Next::Stop(End::Torn));
    // The newest checkpoint has answered for the commit that was asked for before it.
    let mut again = settlement(Shape::Single);
    again.attempted(DOUBT, true, AT);
    assert_eq!(again.fenced(newest("ours", 4).as_ref()), Next::Attempt);
    again.attempted(Attempted::InDoubt { fenced: false, asked: false }, true, AT);
    assert_eq!(again.fenced(newest("ours", 5).as_ref()), Next::Stop(End::Torn));
    // One partition is committed or is not.
    let mut control = settlement(Shape::Control);
    control.attempted(Attempted::InDoubt { fenced: false, asked: false }, true, AT);
    assert_eq!(control.fenced(newest("ours", 5).as_ref()), Next::Committed(Some(77)));
}

#[test]
fn a_claim_follows_only_the_checkpoint_it_was_decided_on() {
    let of = |run: &str| newest(run, 3).map(|newest| newest.checkpoint);
    let begin = |on: Option<&str>| Claim::new("ours".to_owned()).decided_on(on.and_then(of).as_ref());
    assert_eq!(begin(Some("theirs")).fenced(of("theirs")), Next::Attempt);
    assert_eq!(begin(None).fenced(None), Next::Attempt);
    assert_eq!(begin(Some("theirs")).fenced(of("ours")), Next::Committed(None), "an earlier attempt");
    for (on, found) in [(Some("theirs"), of("others")), (None, of("others")), (Some("theirs"), None)] {
        assert_eq!(begin(on).fenced(found), Next::Stop(End::Elsewhere), "{on:?}");
    }
    assert_eq!(Claim::new("ours".to_owned()).fenced(of("others")), Next::Attempt, "outside a cluster");
}

#[test]
fn who_does_not_own_the_shard_fences_nobody() {
    assert_eq!(allowed(Next::Fence, true), (Wait::No, Next::Fence));
    assert_eq!(allowed(Next::Fence, false), (Wait::Confirm, Next::Look));
    for next in [Next::Attempt, Next::Look, Next::Committed(None)] {
        assert_eq!(allowed(next.clone(), false), (Wait::No, next));
    }
}

#[test]
fn a_claim_of_a_shard_that_was_taken_away_waits() {
    let steps = [Next::Fence, Next::Look, Next::Attempt, Next::Committed(None), Next::Stop(End::Elsewhere)];
    assert_eq!(steps.each_ref().map(|next| claims(next, false)), [false, false, false, true, true]);
    assert_eq!(steps.each_ref().map(|next| claims(next, true)), [true; 5]);
}

#[test]
fn only_a_relay_outside_the_cluster_ends_a_node() {
    let by = |node: Option<&str>| {
        let checkpoint = Checkpoint::new("theirs".to_owned(), 1, String::new(), "devnet");
        Checkpoint { node: node.map(str::to_owned), ..checkpoint }
    };
    assert_eq!(fenced(true, &by(Some("n1"))), Fenced::LetGo);
    assert_eq!([fenced(true, &by(None)), fenced(false, &by(Some("n1"))), fenced(false, &by(None))], [Fenced::Stop; 3]);
}

#[test]
fn an_owner_that_lives_is_given_the_time_to_leave() {
    let members = ["n0".to_owned(), "n1".to_owned()];
    let waits = |node: Option<&str>, left: bool| {
        let checkpoint = Checkpoint::new("r".to_owned(), 1, String::new(), "devnet");
        waits_for(&Checkpoint { node: node.map(str::to_owned), left, ..checkpoint }, "n1", &members)
    };
    assert_eq!([waits(Some("n0"), false), waits(Some("n0"), true)], [true, false]);
    assert_eq!([waits(Some("n1"), false), waits(Some("n9"), false), waits(None, false)], [false; 3]);
}

#[test]
fn a_run_from_before_ours_takes_nothing_over() {
    let before = newest("before", 9);
    let behind = || settlement(Shape::Several).behind(vec!["before".to_owned()]);
    assert_eq!(behind().fenced(before.as_ref()), Next::Stop(End::Lost));
    assert_eq!(behind().looked(before.as_ref()), (Wait::No, Next::Stop(End::Lost)));
    assert_eq!(behind().looked(newest("later", 0).as_ref()), (Wait::No, Next::Stop(End::TakenOver)));
}

#[test]
fn a_relay_that_was_fenced_looks_twice_before_it_fences() {
    let mut timed_out = settlement(Shape::Several);
    assert_eq!(timed_out.attempted(FENCED, true, AT), (Wait::No, Next::Look));
    assert_eq!(timed_out.looked(newest("ours", 4).as_ref()), (Wait::Confirm, Next::Look));
    assert_eq!(timed_out.looked(newest("ours", 4).as_ref()), (Wait::No, Next::Fence));
    assert_eq!(timed_out.fenced(newest("ours", 4).as_ref()), Next::Attempt);
    for (found, end) in [(newest("theirs", 0), End::TakenOver), (newest("before", 7), End::Lost), (None, End::Lost)] {
        let mut fenced = settlement(Shape::Several).behind(vec!["before".to_owned()]);
        fenced.attempted(FENCED, true, AT);
        assert_eq!(fenced.looked(found.as_ref()), (Wait::No, Next::Stop(end)));
    }
}

/// What a reader of committed records sees now may be older than what there is: it proves no loss, and no foreign run.
#[test]
fn what_is_stable_is_enough_where_the_run_is_ours() {
    let fenced = settlement(Shape::Several).behind(vec!["before".to_owned()]);
    let shown = |stable: Option<Newest>| fenced.is_shown_by(stable.as_ref());
    assert_eq!([shown(newest("ours", 4)), shown(newest("ours", 5))], [true; 2]);
    assert_eq!([shown(newest("before", 9)), shown(newest("theirs", 1)), shown(None)], [false; 3]);
}

/// The copy of an end that is still under way must not meet another transaction of the same epoch.
#[test]
fn a_producer_whose_end_was_asked_for_twice_begins_no_other_transaction() {
    let mut spent = settlement(Shape::Several);
    assert_eq!(spent.attempted(Attempted::Aborted(Class::Abort), false, AT), (Wait::No, Next::Fence));
    assert_eq!(spent.attempted(Attempted::Committed, false, AT), (Wait::No, Next::Committed(None)));
    assert_eq!(spent.begin(false), Next::Fence);
}

#[test]
fn the_ladder_of_refusals() {
    let aborted = |batch, class| settlement(batch).attempted(Attempted::Aborted(class), true, AT);
    for (batch, class, expected) in [
        (Shape::Several, Class::Size, (Wait::No, Next::Refused(Refusal::Size))),
        (Shape::Single, Class::Size, (Wait::No, Next::Refused(Refusal::Size))),
        (Shape::Several, Class::Slow, (Wait::No, Next::Refused(Refusal::Slow))),
        (Shape::Single, Class::Slow, (Wait::Retry, Next::Attempt)),
        (Shape::Several, Class::Invalid, (Wait::No, Next::Refused(Refusal::Invalid))),
        (Shape::Single, Class::Invalid, (Wait::Retry, Next::Attempt)),
        (Shape::Several, Class::Retry, (Wait::Retry, Next::Attempt)),
        (Shape::Several, Class::Abort, (Wait::No, Next::Attempt)),
        (Shape::Several, Class::Stop, (Wait::No, Next::Stop(End::Fatal))),
        (Shape::Several, Class::Rebuild, (Wait::No, Next::Fence)),
    ] {
        assert_eq!(aborted(batch, class), expected, "{batch:?} {class:?}");
    }
}

#[test]
fn a_single_invalid_record_is_asked_again_over_ten_seconds() {
    let mut settlement = settlement(Shape::Single);
    for seconds in 3..13 {
        let next = settlement.attempted(Attempted::Aborted(Class::Invalid), true, Duration::from_secs(seconds));
        assert_eq!(next, (Wait::Retry, Next::Attempt), "{seconds}");
    }
    let next = settlement.attempted(Attempted::Aborted(Class::Invalid), true, Duration::from_secs(13));
    assert_eq!(next, (Wait::No, Next::Refused(Refusal::Invalid)));
}

#[test]
fn a_pause_is_no_time_in_which_it_was_asked() {
    let mut settlement = settlement(Shape::Single);
    for seconds in [0, 60, 61] {
        let next = settlement.attempted(Attempted::Aborted(Class::Invalid), true, Duration::from_secs(seconds));
        assert_eq!(next, (Wait::Retry, Next::Attempt), "{seconds}");
    }
}

#[test]
fn trouble_that_goes_on_is_waited_for() {
    let mut aborts = settlement(Shape::Several);
    let waits: Vec<_> = (0..5).map(|_| aborts.attempted(Attempted::Aborted(Class::Abort), true, AT).0).collect();
    assert_eq!(waits, [Wait::No, Wait::No, Wait::No, Wait::Retry, Wait::Retry]);
    let mut rebuilds = settlement(Shape::Several);
    let waits: Vec<_> = (0..3).map(|_| rebuilds.attempted(DOUBT, true, AT).0).collect();
    assert_eq!(waits, [Wait::No, Wait::Retry, Wait::Retry]);
}

#[test]
fn a_claim_follows_what_it_read_and_begins_again_when_it_fails() {
    let mut claim = Claim::new("ours".to_owned());
    let other = Checkpoint::new("theirs".to_owned(), 3, String::new(), "devnet");
    assert_eq!(claim.fenced(Some(other.clone())), Next::Attempt);
    assert_eq!(claim.predecessor, Some(other));
    assert_eq!(claim.attempted(DOUBT), (Wait::Retry, Next::Fence));
    let ours = Checkpoint::new("ours".to_owned(), 0, String::new(), "devnet");
    assert_eq!(claim.fenced(Some(ours)), Next::Committed(None), "an earlier attempt is committed");
    assert_eq!(claim.predecessor.as_ref().map(|checkpoint| checkpoint.commit), Some(3));
    assert_eq!(claim.attempted(Attempted::Committed), (Wait::No, Next::Committed(None)));
    assert_eq!(claim.attempted(Attempted::Aborted(Class::Size)), (Wait::No, Next::Refused(Refusal::Size)));
    assert_eq!(claim.attempted(Attempted::Aborted(Class::Invalid)), (Wait::Retry, Next::Fence), "it passes");
    assert_eq!(claim.attempted(Attempted::Stopped), (Wait::No, Next::Stop(End::Fatal)));
}
